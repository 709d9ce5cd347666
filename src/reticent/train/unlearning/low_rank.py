# SPDX-License-Identifier: Apache-2.0
"""The strongest singular directions of a matrix, the same for the same seed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EXACT_BELOW = 4
"""Where the smaller side is at most this many times the rank, an exact decomposition costs no more."""


class LowRank(NamedTuple):
    """``left [m, k]``, ``strength [k]`` from large to small, ``right [n, k]``; their product is the approximation."""

    left: Tensor
    strength: Tensor
    right: Tensor


def low_rank(matrix: Tensor, rank: int, *, seed: int) -> LowRank:
    """The best approximation of that rank, exactly where that is cheap, else by random projections.

    Args:
        matrix: ``[m, n]`` float32.
        rank: k; no more than the smaller side is given.
        seed: of the projections. The caller's random state is left as it was.

    >>> low_rank(torch.diag(torch.tensor([1.0, 3.0])), 1, seed=0).strength.tolist()
    [3.0]
    """
    k = min(rank, *matrix.shape)
    with torch.autocast(matrix.device.type, enabled=False):
        if min(matrix.shape) <= EXACT_BELOW * k:
            left, strength, right = torch.linalg.svd(matrix, full_matrices=False)
            return LowRank(left[:, :k], strength[:k], right[:k].T)
        with torch.random.fork_rng(devices=[matrix.device] if matrix.device.type == "cuda" else []):
            torch.manual_seed(seed)
            left, strength, right = torch.svd_lowrank(matrix, q=min(k + 6, *matrix.shape), niter=4)
        return LowRank(left[:, :k], strength[:k], right[:, :k])
