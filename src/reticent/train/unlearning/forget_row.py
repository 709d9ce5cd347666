# SPDX-License-Identifier: Apache-2.0
"""A text that is to be forgotten, and the batches that such texts become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.models.encode import EncodedRecord
from reticent.train.batches import collate


@dataclass(frozen=True, kw_only=True, eq=False)
class ForgetRow:
    """One text to be forgotten.

    Args:
        forget: the text.
        alternative: the text that is to be said in its place; None where the method knows none.
        forget_logp, alternative_logp: summed log-probability (nats) of the trained tokens under the model before
            unlearning; NaN where the method does not ask for it.
    """

    forget: EncodedRecord
    alternative: EncodedRecord | None = None
    forget_logp: float = float("nan")
    alternative_logp: float = float("nan")

    def __len__(self) -> int:
        return max(len(self.forget), len(self.alternative) if self.alternative is not None else 0)

    @property
    def token_id(self) -> npt.NDArray[np.int32]:
        """Of the text to be forgotten."""
        return self.forget.token_id


def collate_rows(batch: Sequence[ForgetRow], *, pad: int) -> dict[str, Any]:
    """Padded rows: ``input_ids``, ``attention_mask``, ``labels`` ``[B, T]``, ``reference_logp`` ``[B]`` float32 and
    ``count``, which is B. The same of their alternatives, padded to a length of their own, under ``alternative`` where
    there are any."""
    rows: dict[str, Any] = collate([row.forget for row in batch], pad=pad)
    rows |= {"reference_logp": _floats([row.forget_logp for row in batch]), "count": torch.tensor(len(batch))}
    others = [row.alternative for row in batch if row.alternative is not None]
    if others:
        logp = _floats([row.alternative_logp for row in batch])
        rows["alternative"] = collate(others, pad=pad) | {"reference_logp": logp}
    return rows


def _floats(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def drawn(rows: Sequence[Any], count: int, *, seed: int, step: int) -> list[Any]:
    """``count`` rows with replacement, by seed and step alone, so that a training that is gone on with draws the same.

    >>> drawn("abc", 4, seed=1, step=7) == drawn("abc", 4, seed=1, step=7)
    True
    """
    places = np.random.default_rng([seed, step, 0x5EED]).integers(len(rows), size=count)
    return [rows[place] for place in places]
