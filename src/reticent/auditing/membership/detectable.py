# SPDX-License-Identifier: Apache-2.0
"""Power: the smallest effects that an audit of this size would have detected."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from reticent.auditing.membership.level import FPRS, Level
from reticent.core.errors import Underpowered
from reticent.core.results import Power
from reticent.stats.power import smallest_auc, smallest_tpr

POWER = 0.8
PERFECT = 0.999
"""An audit that detects only AUCs above this in effect detects nothing."""


def detectable(level: Level, *, error: float, rest: float, effect: float, smallest_p: float) -> tuple[Power, ...]:
    """The smallest AUC that the primary attack would have detected, and the smallest true positive rates of the others.

    Args:
        level: the units.
        error: one-sided error of the primary statistic.
        rest: of one of the other statistics.
        effect: measured design effect: records that share users count as so many times fewer.
        smallest_p: no p-value can be smaller.
    """
    if smallest_p > error:
        return ()
    sizes = level.n_member / effect, level.n_held_out / effect
    searches: dict[str, Callable[[], float]] = {
        "auc": partial(smallest_auc, *sizes, confidence=1 - 2 * error, power=POWER)
    }
    if smallest_p <= rest:
        counts = int(sizes[0]), int(sizes[1])
        searches |= {
            f"tpr@{fpr:g}": partial(smallest_tpr, *counts, fpr, confidence=1 - 2 * rest, power=POWER) for fpr in FPRS
        }
    rows: list[Power] = []
    for metric, search in searches.items():
        try:
            smallest = search()
        except Underpowered:
            continue
        if smallest < PERFECT:
            rows.append(
                Power(
                    level=level.name,
                    metric=metric,
                    smallest=smallest,
                    power=POWER,
                    n_member=level.n_member,
                    n_held_out=level.n_held_out,
                )
            )
    return tuple(rows)
