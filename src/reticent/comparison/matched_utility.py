# SPDX-License-Identifier: Apache-2.0
"""Settings at their best held-out loss, and at one that others reach too, in every resample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reticent.comparison.snapshots import Floats
from reticent.comparison.trajectories import CheckpointStats, SampleSizes, spread_of
from reticent.core.comparison import MatchedUtility
from reticent.stats.pareto import bracket
from reticent.stats.seed_variance import SeedSpread, over_seeds, seed_spread


@dataclass(frozen=True, kw_only=True, eq=False)
class UtilityCurve:
    """A setting's places with what is needed of each, in every resample.

    Args:
        setting: its index.
        places: ``P`` of them, without the untrained model.
        loss, auc: ``[P, 1 + B]``.
        tpr_at_10pct_fpr: the same; None where refused.
        like: the place with the best loss of each learning rate, whose seeds are taken to vary alike.
        units: behind the intervals.
        base_loss: ``[1 + B]`` of the model before training.
    """

    setting: int
    places: tuple[CheckpointStats, ...]
    loss: Floats
    auc: Floats
    tpr_at_10pct_fpr: Floats | None
    like: tuple[CheckpointStats, ...]
    units: SampleSizes
    base_loss: Floats

    @property
    def best_loss(self) -> Floats:
        """``[1 + B]`` the lowest held-out loss."""
        lowest: Floats = self.loss.min(axis=0)
        return lowest

    @property
    def best(self) -> CheckpointStats:
        """The place with the lowest held-out loss."""
        return self.places[int(np.argmin(self.loss[:, 0]))]


def curve_of(setting: int, places: Sequence[CheckpointStats], units: SampleSizes, base_loss: Floats) -> UtilityCurve:
    """The curve of a setting's places of all learning rates. The untrained model is no part of it, see `cross`."""
    trained = [place for place in places if place.step > 0]
    by_rate: dict[float, CheckpointStats] = {}
    for place in trained:
        of_rate = by_rate.get(place.rate)
        if of_rate is None or place.each("loss").mean() < of_rate.each("loss").mean():
            by_rate[place.rate] = place
    rates = [place.mean("tpr_at_10pct_fpr") for place in trained]
    return UtilityCurve(
        setting=setting,
        places=tuple(trained),
        loss=_stack([place.mean("loss") for place in trained]),
        auc=_stack([place.mean("auc") for place in trained]),
        tpr_at_10pct_fpr=None if any(value is None for value in rates) else _stack(rates),
        like=tuple(by_rate.values()),
        units=units,
        base_loss=base_loss,
    )


def improves(curve: UtilityCurve) -> bool:
    """True if the best held-out loss is below the untrained model's beyond doubt."""
    spread = spread_of(curve.best, "loss", curve.like)
    change = over_seeds(
        curve.best_loss - curve.base_loss, [spread], clusters=curve.units.clusters, n=curve.units.held_out
    )
    return change.hi < 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Crossing:
    """Where a curve crosses a held-out loss: leakage in every resample, and how much it varies with the seed.

    Args:
        auc, tpr_at_10pct_fpr: ``[1 + B]``; the second is None where refused. NaN where a resample does not
            reach the loss.
        spread: of the AUC, the TPR.
        between: as in `MatchedUtility`.
    """

    auc: Floats
    tpr_at_10pct_fpr: Floats | None
    spread: tuple[SeedSpread, SeedSpread]
    between: tuple[tuple[float, int], tuple[float, int]]


def cross(curve: UtilityCurve, target: Floats) -> Crossing | None:
    """The curve at the held-out losses ``target [1 + B]``; None where it does not reach the first, the sample's own.

    AUC and TPR are both taken between the two neighbours on the frontier of loss and AUC, so that they belong to the
    same mixture of models. A curve reaches a loss if it has looks on both sides of it. The untrained model does not
    count as one: an AUC does not care how large scores are, so it leaves 0.5 with the first step, and a straight line
    from there would flatter whoever was looked at late.
    """
    low, high, weight = bracket(curve.loss, curve.auc, target)
    if low[0] < 0 or curve.loss[:, 0].max() < target[0]:
        return None
    columns, reached = np.arange(len(target)), low >= 0

    def mixed(values: Floats) -> Floats:
        return np.where(reached, (1 - weight) * values[low, columns] + weight * values[high, columns], np.nan)

    share = float(weight[0])
    first, second = curve.places[low[0]], curve.places[high[0] if share > 0 else low[0]]
    spreads = tuple(
        _seed_spread(curve, first, second, share, float(target[0]), name) for name in ("auc", "tpr_at_10pct_fpr")
    )
    return Crossing(
        auc=mixed(curve.auc),
        tpr_at_10pct_fpr=None if curve.tpr_at_10pct_fpr is None else mixed(curve.tpr_at_10pct_fpr),
        spread=(spreads[0], spreads[1]),
        between=((first.rate, first.step), (second.rate, second.step)),
    )


def _seed_spread(
    curve: UtilityCurve, first: CheckpointStats, second: CheckpointStats, share: float, target: float, name: str
) -> SeedSpread:
    """Of the interpolated value: each seed's own loss and leakage on the line through the two mean points."""
    leak = [place.each(name) for place in (first, second)]
    if not len(leak[0]) or len(leak[0]) != len(leak[1]):
        return SeedSpread(0.0, 0.0)
    loss = [place.each("loss") for place in (first, second)]
    width = float(loss[1].mean() - loss[0].mean())
    slope = float(leak[1].mean() - leak[0].mean()) / width if width > 0 else 0.0
    residual = (1 - share) * leak[0] + share * leak[1] + slope * (target - (1 - share) * loss[0] - share * loss[1])
    return seed_spread(residual, [place.each(name) for place in curve.like])


def matched(curve: UtilityCurve, target: Floats) -> MatchedUtility | None:
    """The curve's numbers at ``target``, as reported; None where it does not reach it."""
    crossing = cross(curve, target)
    if crossing is None:
        return None
    units = curve.units
    rate = None
    if crossing.tpr_at_10pct_fpr is not None:
        rate = over_seeds(
            crossing.tpr_at_10pct_fpr, [crossing.spread[1]], clusters=units.clusters, n=units.records, share=True
        )
    return MatchedUtility(
        setting=curve.setting,
        loss=float(target[0]),
        auc=over_seeds(crossing.auc, [crossing.spread[0]], clusters=units.clusters, n=units.records, share=True),
        tpr_at_10pct_fpr=rate,
        between=crossing.between,
    )


def _stack(rows: Sequence[Floats | None]) -> Floats:
    return np.array([row for row in rows if row is not None])
