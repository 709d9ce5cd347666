# SPDX-License-Identifier: Apache-2.0
"""TeacherForced: rank and probabilities of every token of given passages, each after the true ones. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherForced:
    """``N`` passages of ``T`` tokens in all, from one teacher-forced pass.

    Args:
        rank: ``[T]`` int32: tokens that greedy decoding would take before the true one: the strictly more likely ones,
            and of the equally likely ones those with a lower id. 0: greedy decoding takes this token.
        logp: ``[T]`` float64, nats: log p of the token under the model itself.
        sampled_logp: ``[T]`` float64, nats: log-probability that the sampling scheme draws the token; -inf: never.
        offsets: ``[N + 1]`` int64: passage ``i`` is ``offsets[i]:offsets[i + 1]``.
    """

    rank: npt.NDArray[np.int32]
    logp: npt.NDArray[np.float64]
    sampled_logp: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if any(len(column) != self.offsets[-1] for column in (self.rank, self.logp, self.sampled_logp)):
            raise ValueError("each column needs one entry for each token")
        if (np.diff(self.offsets) <= 0).any():
            raise ValueError("every passage needs a token")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each passage, ``[N]``."""
        return np.diff(self.offsets)

    def sum(self, values: Array) -> npt.NDArray[np.float64]:
        """Sum over the tokens of each passage, ``[N]``."""
        if not len(self):
            return np.zeros(0)
        total: npt.NDArray[np.float64] = np.add.reduceat(np.asarray(values, dtype=np.float64), self.offsets[:-1])
        return total

    @property
    def log_chance(self) -> npt.NDArray[np.float64]:
        """``[N]``, nats: log-probability that one sampled continuation begins with the passage."""
        return self.sum(self.sampled_logp)
