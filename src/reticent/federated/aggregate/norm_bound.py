# SPDX-License-Identifier: Apache-2.0
"""The mean of updates that are cut to a norm (Sun et al. 2019): a poisoned client cannot shout."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch

from reticent.core import validate
from reticent.federated.aggregate.aggregator import aggregator
from reticent.federated.aggregate.mean import mean
from reticent.federated.update import Update, clipped


@aggregator("norm_bound", paper="arXiv:1911.07963", streams=True, bounded=True)
def norm_bound(updates: Iterable[Update], *, denominator: float, bound: float = 1.0) -> dict[str, torch.Tensor]:
    """Cuts each update to a norm of at most ``bound``, sums, and divides by the expected number of clients.

    Args:
        updates: of one round.
        denominator: expected clients of a round; a client that does not answer counts as one that changed nothing.
        bound: largest norm that an update keeps.

    Examples:
        >>> norm_bound([{"a": torch.tensor([8.0])}, {"a": torch.tensor([0.5])}], denominator=2, bound=1.0)
        {'a': tensor([0.7500])}
    """
    validate.positive(bound=bound)
    # Not a loop of its own, whose variable would hold an update while the next is made.
    return mean(map(partial(clipped, bound=bound), updates), denominator=denominator)
