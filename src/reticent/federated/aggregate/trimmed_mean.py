# SPDX-License-Identifier: Apache-2.0
"""The mean of each coordinate without its largest and smallest values (Yin et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from reticent.core.errors import BadInput
from reticent.federated.aggregate.aggregator import aggregator
from reticent.federated.update import Update


@aggregator("trimmed_mean", paper="arXiv:1803.01498", streams=False, bounded=False, fewest=3)
def trimmed_mean(updates: Iterable[Update], *, denominator: float, share: float = 0.1) -> dict[str, torch.Tensor]:
    """Drops a share of the values of each coordinate at either end, and averages the rest.

    It averages over those that answered: which values count is decided by all of them, so no number that is fixed
    beforehand could stand below.

    Args:
        updates: of one round.
        denominator: not used.
        share: of the updates that is dropped at either end, at least one update; up to that share may be poisoned.

    Examples:
        >>> trimmed_mean([{"a": torch.tensor([value])} for value in (1.0, 2.0, 3.0, 1e9)], denominator=4)
        {'a': tensor([2.5000])}
    """
    if not 0 < share < 0.5:
        raise BadInput(f"share={share!r}", "must be above 0 and below 0.5", "Give 0.1.")
    held = list(updates)
    cut = min(math.ceil(share * len(held) - 1e-9), (len(held) - 1) // 2)
    trimmed = {}
    for name in held[0]:
        values = torch.stack([update[name] for update in held]).sort(dim=0).values
        trimmed[name] = values[cut : len(held) - cut].mean(dim=0)
    return trimmed
