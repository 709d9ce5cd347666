# SPDX-License-Identifier: Apache-2.0
"""The mean over a number that is fixed beforehand (McMahan et al. 2018), on which client-level privacy rests."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from reticent.federated.aggregate.aggregator import aggregator
from reticent.federated.update import Update, add_, zeros_like


@aggregator("mean", paper="arXiv:1710.06963", streams=True, bounded=True)
def mean(updates: Iterable[Update], *, denominator: float) -> dict[str, torch.Tensor]:
    """Sums the updates and divides by the expected number of clients, whoever answered.

    A client that does not answer counts as one that changed nothing; what a client says of its own size is not read.

    Examples:
        >>> mean([{"a": torch.tensor([1.0])}, {"a": torch.tensor([2.0])}], denominator=4)
        {'a': tensor([0.7500])}
    """
    total: dict[str, torch.Tensor] = {}
    for update in updates:
        if not total:
            total = zeros_like(update)
        add_(total, update)
        del update  # else it would be held while the next is made
    return {name: array / denominator for name, array in total.items()}
