# SPDX-License-Identifier: Apache-2.0
"""Krum: the update that lies nearest to most others (Blanchard et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from reticent.core import validate
from reticent.federated.aggregate.aggregator import aggregator
from reticent.federated.update import Update, norm


@aggregator("krum", paper="arXiv:1703.02757", streams=False, bounded=False, fewest=3)
def krum(
    updates: Iterable[Update], *, denominator: float, faulty: int | None = None, chosen: int = 1
) -> dict[str, torch.Tensor]:
    """Keeps the update with the smallest sum of squared distances to its n - faulty - 2 nearest others.

    Args:
        updates: of one round, n of them.
        denominator: not used.
        faulty: how many may be poisoned; at most (n - 3) / 2 can be held off, which is also what is taken where it is
            left out, or where too few answer for more.
        chosen: average so many of the best (Multi-Krum).

    Examples:
        >>> krum([{"a": torch.tensor([value])} for value in (1.0, 1.1, 1.3, 1e9, -1e9)], denominator=5)
        {'a': tensor([1.1000])}
    """
    validate.positive(chosen=chosen)
    if faulty is not None:
        validate.non_negative(faulty=faulty)
    held = list(updates)
    most = (len(held) - 3) // 2
    near = len(held) - (most if faulty is None else min(faulty, most)) - 2
    scores = _squared_distances(held).sort(dim=1).values[:, 1 : 1 + near].sum(dim=1)
    # Those that score alike are told apart by their length, not by who came first.
    order = sorted(range(len(held)), key=lambda number: (float(scores[number]), norm(held[number])))
    best = [held[number] for number in order[: min(chosen, len(held))]]
    return {name: torch.stack([update[name] for update in best]).mean(dim=0) for name in best[0]}


def _squared_distances(updates: list[Update]) -> torch.Tensor:
    """``[n, n]``, float64; differences are taken before squares, as huge updates would leave nothing of small ones."""
    distances = torch.zeros(len(updates), len(updates), dtype=torch.float64)
    for row, update in enumerate(updates):
        for column, other in enumerate(updates[:row]):
            squares = [(update[name].double() - other[name].double()).square().sum() for name in update]
            distances[row, column] = distances[column, row] = float(torch.stack(squares).sum())
    return distances
