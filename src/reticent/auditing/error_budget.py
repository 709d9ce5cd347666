# SPDX-License-Identifier: Apache-2.0
"""The report's one error, divided over what there is to test before anything is seen.

The weights stand in the ``family.py`` of each family.

Groups that are tested pass on what they do not need (a closed test); what rests on intervals keeps its part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.stats.max_t import HypothesisGroup, closed

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Claim:
    """A kind of finding that gets a part of the report's error.

    Args:
        name: of the kind.
        weight: of its part, fixed beforehand. Kinds that are not there make no claim, and get nothing.
        groups: hypotheses with p-values adjusted within each group; the weights divide this claim's part. Empty where
            findings rest on intervals.
    """

    name: str
    weight: float
    groups: tuple[HypothesisGroup, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Allowance:
    """Each claim's part of the report's error, and its p-values adjusted for the whole report.

    Args:
        error: of the whole report.
        parts: of it, by claim.
        p: by claim, for each of its groups the p-values adjusted for everything that the report tests.
    """

    error: float
    parts: Mapping[str, float]
    p: Mapping[str, tuple[Floats, ...]]

    def confidence(self, name: str) -> float:
        """Joint confidence of all intervals of one claim."""
        return 1 - self.parts.get(name, self.error)


def allot(error: float, claims: Sequence[Claim]) -> Allowance:
    """Divide ``error`` over the claims by weight, and adjust all their p-values together.

    Raises:
        ValueError: two claims have one name, or a weight is not above 0: a fault of a family.

    >>> tested = Claim(name="user", weight=4.0, groups=(HypothesisGroup(1.0, np.array([0.01])),))
    >>> allowance = allot(0.05, [tested, Claim(name="epsilon", weight=1.0)])
    >>> allowance.parts, allowance.p["user"][0].round(4).tolist()
    ({'user': 0.04, 'epsilon': 0.01}, [0.0125])
    """
    names = [claim.name for claim in claims]
    if len(set(names)) < len(names) or not all(0 < claim.weight < math.inf for claim in claims):
        raise ValueError(f"claims need names of their own and weights above 0: {sorted(names)}")
    total = sum(claim.weight for claim in claims)
    parts = {claim.name: error * claim.weight / total for claim in claims}
    return Allowance(error=error, parts=parts, p=_adjusted(claims, parts))


def _adjusted(claims: Sequence[Claim], parts: Mapping[str, float]) -> dict[str, tuple[Floats, ...]]:
    groups: list[HypothesisGroup] = []
    names: list[str] = []
    for claim in claims:
        shares = sum(group.weight for group in claim.groups)
        for group in claim.groups:
            groups.append(HypothesisGroup(parts[claim.name] * group.weight / shares, group.adjusted))
            names.append(claim.name)
    if not groups:
        return {}
    aside = sum(parts.values()) / sum(group.weight for group in groups)
    adjusted: dict[str, tuple[Floats, ...]] = {}
    for name, p in zip(names, closed(groups), strict=True):
        adjusted[name] = (*adjusted.get(name, ()), np.minimum(aside * p, 1.0))
    return adjusted
