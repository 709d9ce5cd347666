# SPDX-License-Identifier: Apache-2.0
"""Ranks two settings by their leakage at the same held-out loss, and says when they cannot be ranked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from reticent.comparison.matched_utility import UtilityCurve, cross, improves
from reticent.core.comparison import Setting, SettingPair
from reticent.core.finding import Estimate
from reticent.stats.hypothesis import family_confidence
from reticent.stats.seed_variance import over_seeds

LEAST_RATES = 2
LEAST_SEEDS = 2
TOO_LATE = "the first look at {} is already more useful than this loss (look more often: --every)."


def pairs_of(
    settings: Sequence[Setting], curves: dict[int, UtilityCurve], *, confidence: float = 0.95
) -> list[SettingPair]:
    """Every two methods with the same defence, every defence against none with the same method, and every two schedules
    with the same of both.

    The intervals hold together (Bonferroni over the pairs). Each pair is compared at the best loss that both reach.
    """
    wanted = [
        (a, b, kind) for a, b in combinations(range(len(settings)), 2) if (kind := _kind(settings[a], settings[b]))
    ]
    single = family_confidence(confidence, max(len(wanted), 1))
    joint = confidence if len(wanted) > 1 else None
    return [_pair(a, b, kind, settings, curves, confidence=single, joint=joint) for a, b, kind in wanted]


def _kind(a: Setting, b: Setting) -> str:
    same_method = (a.method, a.params) == (b.method, b.params)
    if a.schedule != b.schedule:
        return "schedule" if same_method and a.defence == b.defence else ""
    if a.defence == b.defence and not same_method:
        return "method"
    return "defence" if same_method and "none" in (a.defence, b.defence) else ""


def _pair(
    a: int,
    b: int,
    kind: str,
    settings: Sequence[Setting],
    curves: dict[int, UtilityCurve],
    *,
    confidence: float,
    joint: float | None,
) -> SettingPair:
    lost = [settings[number].name for number in (a, b) if number not in curves]
    idle = [settings[number].name for number in (a, b) if number in curves and not improves(curves[number])]
    if lost or idle:
        reason = f"{' and '.join(idle)} did not learn: no held-out loss clearly below the untrained model's."
        reason = f"no training of {' and '.join(lost)} was finished." if lost else reason
        return SettingPair(a=a, b=b, kind=kind, loss=None, auc=None, tpr_at_10pct_fpr=None, less=None, why_not=reason)
    left, right = curves[a], curves[b]
    target = np.maximum(left.best_loss, right.best_loss)
    x, y = cross(left, target), cross(right, target)
    if x is None or y is None:
        late = settings[a if x is None else b].name
        reason = TOO_LATE.format(late)
        return SettingPair(
            a=a, b=b, kind=kind, loss=float(target[0]), auc=None, tpr_at_10pct_fpr=None, less=None, why_not=reason
        )
    clusters = min(left.units.clusters, right.units.clusters)
    n = max(left.units.records, right.units.records)

    def difference(values: tuple[np.ndarray | None, np.ndarray | None], which: int) -> Estimate | None:
        if values[0] is None or values[1] is None:
            return None
        return over_seeds(
            values[0] - values[1],
            [x.spread[which], y.spread[which]],
            clusters=clusters,
            n=n,
            confidence=confidence,
            joint=joint,
        )

    auc = difference((x.auc, y.auc), 0)
    assert auc is not None
    reason = _why_not(settings[a], settings[b], kind, auc)
    less = None if reason else (a if auc.value < 0 else b)
    rate = difference((x.tpr_at_10pct_fpr, y.tpr_at_10pct_fpr), 1)
    return SettingPair(
        a=a, b=b, kind=kind, loss=float(target[0]), auc=auc, tpr_at_10pct_fpr=rate, less=less, why_not=reason
    )


def _why_not(a: Setting, b: Setting, kind: str, auc: Estimate) -> str:
    """Why the two are not ranked; empty where they are."""
    few = [setting.name for setting in (a, b) if len(setting.learning_rates) < LEAST_RATES]
    if kind in ("method", "schedule") and few:
        return f"only one learning rate of {' and '.join(few)} was tried, and that matters more than the {kind}."
    alone = [setting.name for setting in (a, b) if setting.seeds < LEAST_SEEDS]
    if alone:
        return f"one seed of {' and '.join(alone)}: another training might come out otherwise."
    if auc.lo <= 0 <= auc.hi:
        return "the interval of the difference covers 0."
    return ""
