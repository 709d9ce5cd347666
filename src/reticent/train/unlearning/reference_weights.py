# SPDX-License-Identifier: Apache-2.0
"""The tuned model before unlearning, which methods hold the model in training against.

A copy of the trained weights alone: of a model with an adapter this is the adapter, and there is never a second base in
memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class ReferenceWeights:
    """The trained weights of a model as they were, beside it.

    Args:
        model: before its first step.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._before = [(weight, weight.detach().clone()) for weight in _trained(model)]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within this context the model answers as it did before, without a gradient; afterwards as it does now.

        The very tensors are put back, so nothing is rounded, and a graph that was built before stays whole.
        """
        after = [(weight, weight.data) for weight, _ in self._before]
        try:
            for weight, before in self._before:
                weight.data = before
            with torch.no_grad():
                yield
        finally:
            for weight, data in after:
                weight.data = data


def _trained(model: Any) -> list[torch.nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad]
