# SPDX-License-Identifier: Apache-2.0
"""The median of each coordinate (Yin et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from reticent.federated.aggregate.aggregator import aggregator
from reticent.federated.update import Update


@aggregator("median", paper="arXiv:1803.01498", streams=False, bounded=False, fewest=3)
def median(updates: Iterable[Update], *, denominator: float) -> dict[str, torch.Tensor]:
    """Takes the median of each coordinate over those that answered; of an even number the mean of the middle two.

    Args:
        updates: of one round.
        denominator: not used.

    Examples:
        >>> median([{"a": torch.tensor([value])} for value in (1.0, 2.0, 4.0, 1e9)], denominator=4)
        {'a': tensor([3.])}
    """
    held = list(updates)
    low, high = (len(held) - 1) // 2, len(held) // 2
    middle = {}
    for name in held[0]:
        values = torch.stack([update[name] for update in held]).sort(dim=0).values
        middle[name] = (values[low] + values[high]) / 2
    return middle
