# SPDX-License-Identifier: Apache-2.0
"""Trajectories: a setting at one learning rate, all of its seeds, look by look, with every resample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reticent.comparison.bootstrap import FPR, Resamples, SnapshotStats, measure
from reticent.comparison.snapshots import Floats, Snapshots
from reticent.core.comparison import Point
from reticent.core.finding import Estimate
from reticent.stats.seed_variance import SeedSpread, over_seeds, seed_spread

NATS = "nats a token"


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckpointStats:
    """Results of all seeds of a setting and learning rate after the same number of steps.

    Args:
        setting, rate, step, epoch, phase: where; see `Point`.
        seeds: one `SnapshotStats` for each seed.
        exposure: median exposure by tier, one estimate for each seed.
        canary_users: AUC of users with a phrase of their own, one for each seed; empty without such users.
    """

    setting: int
    rate: float
    step: int
    epoch: float
    phase: str
    seeds: tuple[SnapshotStats, ...]
    exposure: dict[str, tuple[Estimate, ...]]
    canary_users: tuple[Estimate, ...] = ()

    def mean(self, name: str) -> Floats | None:
        """``[1 + B]`` mean over seeds of a statistic of `SnapshotStats`; None where a seed lacks it."""
        values = [getattr(seed, name) for seed in self.seeds]
        return None if any(value is None for value in values) else np.mean(values, axis=0)

    def each(self, name: str) -> Floats:
        """``[S]`` the value of each seed; empty where a seed lacks it."""
        values = [getattr(seed, name) for seed in self.seeds]
        return np.array([]) if any(value is None for value in values) else np.array([value[0] for value in values])


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleSizes:
    """How much stands behind the intervals: independent units of the smaller side, and records of both.

    Args:
        clusters: of the record comparison.
        users: of the user comparison; 0 without.
        records: members and held-out.
        held_out: records that utility is measured on.
    """

    clusters: int
    users: int
    records: int
    held_out: int


def sample_sizes(looks: Snapshots, resamples: Resamples) -> SampleSizes:
    """Of a training's panel."""
    rows, member = looks.attacked, looks.member[looks.attacked]
    names = (looks.user if resamples.by_user else looks.record_id)[rows].astype(str)
    users = looks.fresh
    inside = len(np.unique(looks.user[users & looks.user_member].astype(str)))
    outside = len(np.unique(looks.user[users & ~looks.user_member].astype(str)))
    return SampleSizes(
        clusters=min(len(np.unique(names[side])) for side in (member, ~member)),
        users=min(inside, outside) if looks.by_user else 0,
        records=int(rows.sum()),
        held_out=len(resamples.held_out),
    )


def trajectory(
    setting: int, rate: float, looks: Sequence[Snapshots], resamples: Resamples, note: Callable[[str], None]
) -> list[CheckpointStats]:
    """The looks that all seeds have, in order, the model before training first.

    Args:
        note: told what was left out.
    """
    steps = sorted(set.intersection(*(set(history.step.tolist()) for history in looks)))
    lost = max(len(history.step) for history in looks) - len(steps)
    if lost:
        note(f"{lost} looks that not all seeds reached are left out at learning rate {rate:g}.")
    places = []
    for step in steps:
        at = [int(np.flatnonzero(history.step == step)[0]) for history in looks]
        moments = [history.watch.moments[i] for history, i in zip(looks, at, strict=True)]
        tiers = [tier for tier in moments[0].exposure if all(tier in moment.exposure for moment in moments)]
        places.append(
            CheckpointStats(
                setting=setting,
                rate=rate,
                step=int(step),
                epoch=moments[0].epoch,
                phase=Counter(moment.phase for moment in moments).most_common(1)[0][0],
                seeds=tuple(measure(history, i, resamples) for history, i in zip(looks, at, strict=True)),
                exposure={tier: tuple(moment.exposure[tier] for moment in moments) for tier in tiers},
                canary_users=_all([moment.canary_user_auc for moment in moments]),
            )
        )
    return places


def _all(estimates: Sequence[Estimate | None]) -> tuple[Estimate, ...]:
    """All of them, or none where one is missing."""
    present = tuple(estimate for estimate in estimates if estimate is not None)
    return present if len(present) == len(estimates) else ()


def spread_of(place: CheckpointStats, name: str, like: Sequence[CheckpointStats]) -> SeedSpread:
    """Of the mean over seeds of a statistic, pooled with the same setting's other learning rates."""
    return seed_spread(place.each(name), [other.each(name) for other in like if other is not place])


def as_point(
    place: CheckpointStats, like: Sequence[CheckpointStats], units: SampleSizes, *, on_frontier: bool
) -> Point:
    """The numbers of a checkpoint, as reported; ``like``: the same setting's checkpoints whose seeds vary alike."""

    def number(name: str, share: bool, unit: str = "", worse: bool = True) -> Estimate | None:
        mean = place.mean(name)
        if mean is None:
            return None
        user = name.startswith("user")
        return over_seeds(
            mean,
            [spread_of(place, name, like)],
            clusters=units.users if user else units.clusters,
            n=units.users if user else units.held_out if name == "loss" else units.records,
            share=share,
            unit=unit,
            higher_is_worse=worse,
        )

    loss, gap = number("loss", False, NATS, False), number("gap", False, NATS)
    assert loss is not None
    assert gap is not None
    user_gap = place.mean("user_gap")
    return Point(
        setting=place.setting,
        learning_rate=place.rate,
        step=place.step,
        epoch=place.epoch,
        seeds=len(place.seeds),
        loss=loss,
        auc=_untrained(0.5, units) if place.step == 0 else _given(number("auc", True)),
        tpr_at_10pct_fpr=_tpr(place, number, units),
        user_auc=None if place.step == 0 else number("user_auc", True),
        user_gap=None if user_gap is None else float(user_gap[0]),
        gap=gap,
        exposure={tier: hull(of_tier) for tier, of_tier in place.exposure.items()},
        canary_user_auc=hull(place.canary_users) if place.canary_users else None,
        phase=place.phase,
        each_loss=tuple(place.each("loss").tolist()),
        each_auc=tuple(place.each("auc").tolist()),
        each_tpr_at_10pct_fpr=tuple(place.each("tpr_at_10pct_fpr").tolist()),
        on_frontier=on_frontier,
    )


def _tpr(place: CheckpointStats, number: Callable[..., Estimate | None], units: SampleSizes) -> Estimate | None:
    if place.step == 0:
        return None if place.mean("tpr_at_10pct_fpr") is None else _untrained(FPR, units)
    return number("tpr_at_10pct_fpr", True)


def _untrained(value: float, units: SampleSizes) -> Estimate:
    """All scores are equal before training, so this is no measurement."""
    return Estimate(value=value, lo=value, hi=value, n=units.records, method="by definition: scores are all equal")


def _given(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


def hull(estimates: Sequence[Estimate]) -> Estimate:
    """Mean over seeds, with the hull of their intervals, which hold together at ``1 - S (1 - c)``."""
    value = sum(estimate.value for estimate in estimates) / len(estimates)
    confidence = max(1 - sum(1 - estimate.confidence for estimate in estimates), 0.01)
    first = estimates[0]
    return Estimate(
        value=value,
        lo=min(estimate.lo for estimate in estimates),
        hi=max(estimate.hi for estimate in estimates),
        n=first.n,
        method=first.method if len(estimates) == 1 else f"hull of {len(estimates)} seeds; {first.method}",
        confidence=confidence,
        unit=first.unit,
        higher_is_worse=first.higher_is_worse,
    )
