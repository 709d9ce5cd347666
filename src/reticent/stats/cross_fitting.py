# SPDX-License-Identifier: Apache-2.0
"""Halves of the units, so that what is learned on one is judged on the other; and one estimate from both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.validate import same_length
from reticent.stats.hypothesis import family_confidence


def halves(member: ArrayLike, cluster: ArrayLike | None = None, *, seed: int = 0) -> NDArray[np.bool_]:
    """``[N]`` bool: the unit is in the second half. A user's units stay together.

    Users with members only, with held-out only and with both are halved each by themselves, so that either half has
    its share of members. No score is looked at.

    Args:
        member: ``[N]`` bool.
        cluster: ``[N]`` user of each unit; None: every unit is on its own.
        seed: of the halving.
    """
    label = np.asarray(member, dtype=bool)
    owner = np.arange(len(label)) if cluster is None else np.unique(np.asarray(cluster), return_inverse=True)[1]
    same_length(member=label, cluster=owner)
    owners = int(owner.max()) + 1 if len(owner) else 0
    kind = np.zeros(owners, dtype=np.int64)
    np.bitwise_or.at(kind, owner, np.where(label, 1, 2))
    rng = np.random.default_rng(seed)
    second = np.zeros(owners, dtype=bool)
    for stratum in np.unique(kind):
        count = int((kind == stratum).sum())
        second[kind == stratum] = rng.permutation(count) >= (count + 1) // 2
    return second[owner]


def confidence_of_each(confidence: float, parts: int = 2) -> float:
    """Confidence for the intervals that go into `mean_of`, so that the mean's holds with ``confidence``."""
    return family_confidence(confidence, parts)


def mean_of(parts: Sequence[Estimate], *, confidence: float) -> Estimate:
    """The mean of several numbers, between the means of their intervals' ends.

    If each interval has ``confidence_of_each(confidence, parts)``, all hold together with ``confidence``, and then so
    does the mean's, however the parts depend on each other. That matters after cross-fitting: the model that scores
    one half was fitted on the other, so a chance pattern that both halves share lifts both results. An interval that
    takes the units as independent misses too often then (in simulations with no signal: 10 to 14 % instead of 5 %).

    Raises:
        BadInput: no parts, or parts in different units or directions.
    """
    if not parts or len({(part.unit, part.higher_is_worse) for part in parts}) != 1:
        raise BadInput(f"{len(parts)} estimates", "have no common mean", "Give estimates of one quantity.")
    return Estimate(
        value=float(np.mean([part.value for part in parts])),
        lo=float(np.mean([part.lo for part in parts])),
        hi=float(np.mean([part.hi for part in parts])),
        n=sum(part.n for part in parts),
        method=f"mean over {len(parts)} parts, each judged by what was learned on the rest; {parts[0].method}, "
        "Bonferroni",
        confidence=confidence,
        unit=parts[0].unit,
        higher_is_worse=parts[0].higher_is_worse,
    )
