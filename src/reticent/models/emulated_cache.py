# SPDX-License-Identifier: Apache-2.0
"""The memory of an ensemble: a cache of keys and values for each of its models, of that model's kind, kept in step."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache


class EmulatedCache:
    """The caches of an ensemble's models, which grow, shrink and change their order together.

    Args:
        caches: one for each reading; None for what nothing was read into yet, so that the model makes its own kind.
    """

    def __init__(self, caches: list[Any]) -> None:
        self.caches = caches

    def get_seq_length(self) -> int:
        """Tokens that were read."""
        first = self.caches[0]
        return 0 if first is None else int(first.get_seq_length())

    def reorder_cache(self, index: torch.Tensor) -> None:
        """Go on with these of the texts; some may be left out or repeated."""
        for cache in self.caches:
            cache.reorder_cache(index)

    def crop(self, tokens: int) -> None:
        """Forget the last ``-tokens`` tokens of every text; ``tokens`` is at most 0, as in transformers."""
        for cache in self.caches:
            cache.crop(tokens)


def empty_cache(model: Any) -> Any:
    """A cache that nothing was read into and that may be cut back, for ``model`` or for the models of an ensemble."""
    readings = len(model.readings) if getattr(model, "is_ensemble", False) else 1
    if readings == 1:
        return DynamicCache()
    return EmulatedCache([DynamicCache() for _ in range(readings)])
