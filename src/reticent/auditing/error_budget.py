# SPDX-License-Identifier: Apache-2.0
"""The report's one error, divided over what there is to test before anything is seen."""

from __future__ import annotations

from collections.abc import Iterable

OWN, LEVEL, TIERS, EPSILON, PULLED = 4.0, 1.0, 1.0, 0.5, 1.0
"""Weights: of the level that coins were thrown for (of all levels where membership was given), of any other level, of
planted secrets, of lower bounds on ε, and of each kind of text that is pulled out or ranked."""


def parts_of_error(
    error: float,
    *,
    levels: Iterable[str],
    membership: str,
    tiers: bool,
    epsilon: bool,
    extraction: int,
    identifiers: bool = False,
) -> dict[str, float]:
    """What each kind of finding may err, in all ``error``. Kinds that are not there get nothing.

    Args:
        error: of the whole report.
        levels: names of those with units enough.
        membership: what the coins were thrown for: ``"record"``, ``"user"`` or ``"given"``.
        tiers: whether secrets were planted.
        epsilon: whether anything had fair coins of its own.
        extraction: kinds of text that were pulled out.
        identifiers: whether those in the records were ranked among controls.

    >>> parts_of_error(0.055, levels=["record", "user"], membership="user", tiers=False, epsilon=True, extraction=0)
    {'record': 0.01, 'user': 0.04, 'epsilon': 0.005}
    """
    weights = {name: OWN if membership in (name, "given") else LEVEL for name in levels}
    weights |= {"tiers": TIERS} if tiers else {}
    weights |= {"epsilon": EPSILON} if epsilon else {}
    weights |= {"extraction": extraction * PULLED} if extraction else {}
    weights |= {"identifiers": PULLED} if identifiers else {}
    total = sum(weights.values())
    return {name: error * weight / total for name, weight in weights.items()}
