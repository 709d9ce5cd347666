# SPDX-License-Identifier: Apache-2.0
"""From the looks of all trainings to a Comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reticent.comparison.bootstrap import MIN_HELD_OUT, Resamples, base_loss, make_resamples, measure
from reticent.comparison.fairness import fairness
from reticent.comparison.grid import Grid, Trial, name_of
from reticent.comparison.matched_utility import UtilityCurve, curve_of, improves, matched
from reticent.comparison.narrative import headline, notes_of
from reticent.comparison.overfitting import associations
from reticent.comparison.ranking import TOO_LATE, pairs_of
from reticent.comparison.snapshots import Snapshots, read_snapshots
from reticent.comparison.stand_in_audit import audited_settings
from reticent.comparison.trajectories import NATS, CheckpointStats, as_point, sample_sizes, trajectory
from reticent.comparison.trial import TrialOutcome
from reticent.core.comparison import Comparison, Point, Setting, TrialRow
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now
from reticent.stats.clustered import MIN_CLUSTERS, MIN_USERS
from reticent.stats.pareto import frontier
from reticent.stats.seed_variance import over_seeds


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedTrial:
    """A cell with its outcome and, where it was finished, its looks."""

    cell: Trial
    outcome: TrialOutcome | None
    folder: Path
    looks: Snapshots | None


def collect(root: Path, grid: Grid, outcomes: Sequence[TrialOutcome | None]) -> list[FinishedTrial]:
    """Read what the cells left."""
    trials = []
    for cell, outcome in zip(grid.cells, outcomes, strict=True):
        folder = root / "cells" / cell.name
        looks = read_snapshots(folder) if outcome is not None and outcome.status == "done" else None
        trials.append(FinishedTrial(cell=cell, outcome=outcome, folder=folder, looks=looks))
    return trials


def evaluate(
    grid: Grid, trained: Sequence[FinishedTrial], *, title: str, provenance: dict[str, Any], n_boot: int = 1000
) -> Comparison:
    """Compare what was trained.

    Raises:
        BadInput: no training was finished.
    """
    done = [trial for trial in trained if trial.looks is not None]
    if not done:
        raise BadInput("the comparison", f"none of {len(trained)} trainings was finished", _first_trouble(trained))
    resamples = make_resamples([trial.looks for trial in done if trial.looks is not None], n_boot=n_boot)
    if len(resamples.held_out) < 2:
        raise BadInput("the comparison", "no held-out record is in all panels", "Look at more records (--panel).")
    settings: list[Setting] = []
    points: list[Point] = []
    curves: dict[int, UtilityCurve] = {}
    for number, (method, defence, schedule) in enumerate(grid.settings):
        of_setting = [trial for trial in done if trial.cell.setting == number]
        notes: list[str] = []
        tracks = _tracks(number, of_setting, resamples, notes)
        setting = Setting(
            name=name_of(method, defence, schedule if len(grid.schedules) > 1 else ""),
            method=method.method,
            params=dict(method.params),
            defence=defence.name,
            about=defence.about,
            schedule=schedule,
        )
        if tracks:
            first = next(trial.looks for trial in of_setting if trial.looks is not None)
            places = [place for track in tracks.values() for place in track]
            curve = curve_of(number, places, sample_sizes(first, resamples), base_loss(first, resamples))
            curves[number] = curve
            setting = _described(setting, of_setting, tracks, curve, resamples, notes)
            setting = replace(setting, best=len(points) + places.index(curve.best))
            points += _points(places, curve)
        else:
            setting = replace(setting, why_not="no training was finished")
        settings.append(setting)
    settings = _match(settings, curves)
    pairs = pairs_of(settings, curves)
    first_curve = next(iter(curves.values()))
    base = over_seeds(
        first_curve.base_loss,
        [],
        clusters=first_curve.units.clusters,
        n=first_curve.units.held_out,
        unit=NATS,
        higher_is_worse=False,
    )
    verdict, sentences = headline(settings, points, pairs)
    return Comparison(
        title=title,
        created=now(),
        headline=verdict,
        sentences=tuple(sentences),
        base_loss=base,
        settings=tuple(settings),
        points=tuple(points),
        pairs=tuple(pairs),
        cells=tuple(map(_row, trained)),
        associations=tuple(associations([measure(trial.looks, len(trial.looks.step) - 1, resamples)
                                         for trial in done if trial.looks is not None])),
        audited=audited_settings(settings, points, done),
        refused=tuple(_refused(curves, resamples, points)),
        counts=_counts(trained, resamples),
        provenance=provenance | {"environment": environment()},
    )  # fmt: skip


def _tracks(
    number: int, trials: Sequence[FinishedTrial], resamples: Resamples, notes: list[str]
) -> dict[float, list[CheckpointStats]]:
    """Looks by learning rate. A rate that not all seeds survived is left out: its mean would be over other seeds."""
    by_rate: dict[float, list[Snapshots]] = defaultdict(list)
    for trial in trials:
        assert trial.looks is not None
        by_rate[trial.cell.learning_rate].append(trial.looks)
    most = max((len(looks) for looks in by_rate.values()), default=0)
    tracks = {}
    for rate, looks in sorted(by_rate.items()):
        if len(looks) < most:
            notes.append(f"Learning rate {rate:g} is left out: {len(looks)} of {most} seeds were finished.")
            continue
        tracks[rate] = trajectory(number, rate, looks, resamples, notes.append)
    return tracks


def _described(
    setting: Setting,
    trials: Sequence[FinishedTrial],
    tracks: dict[float, list[CheckpointStats]],
    curve: UtilityCurve,
    resamples: Resamples,
    notes: list[str],
) -> Setting:
    best = curve.best
    cells = [trial for trial in trials if trial.cell.learning_rate == best.rate]
    seeds = min(len(track[0].seeds) for track in tracks.values())
    return replace(
        setting,
        trained_parameters=max((trial.outcome.trained_parameters for trial in trials if trial.outcome), default=0),
        learning_rates=tuple(tracks),
        seeds=seeds,
        fairness=fairness(
            setting=best.setting,
            rate=best.rate,
            step=best.step,
            looks=[trial.looks for trial in cells if trial.looks is not None],
            folders=[trial.folder for trial in cells],
            resamples=resamples,
        ),
        notes=tuple(notes + notes_of(best, tracks, seeds)),
    )


def _points(places: Sequence[CheckpointStats], curve: UtilityCurve) -> list[Point]:
    on = [curve.places[row] for row in frontier(curve.loss[:, 0], curve.auc[:, 0]).tolist()]
    return [as_point(place, curve.like, curve.units, on_frontier=place in on) for place in places]


def _match(settings: Sequence[Setting], curves: dict[int, UtilityCurve]) -> list[Setting]:
    """Every setting at the best loss that all of those reach that learned anything."""
    learned = {number: curve for number, curve in curves.items() if improves(curve)}
    target = np.max([curve.best_loss for curve in learned.values()], axis=0) if learned else None
    matches = []
    for number, setting in enumerate(settings):
        if setting.why_not:
            matches.append(setting)
        elif target is None or number not in learned:
            reason = "its held-out loss is never clearly below the untrained model's"
            matches.append(replace(setting, why_not=reason))
        else:
            there = matched(learned[number], target)
            matches.append(replace(setting, matched=there, why_not="" if there else TOO_LATE.format("it")))
    return matches


def _row(trial: FinishedTrial) -> TrialRow:
    watch = trial.looks.watch if trial.looks is not None else None
    return TrialRow(
        name=trial.cell.name,
        setting=trial.cell.setting,
        learning_rate=trial.cell.learning_rate,
        seed=trial.cell.seed,
        status=trial.outcome.status if trial.outcome else "missing",
        why=trial.outcome.why if trial.outcome else "",
        training_seconds=watch.training_seconds if watch else 0.0,
        watching_seconds=watch.watching_seconds if watch else 0.0,
        stopped=watch.stopped if watch else "",
    )


def _refused(curves: dict[int, UtilityCurve], resamples: Resamples, points: Sequence[Point]) -> list[str]:
    sentences = []
    if all(curve.tpr_at_10pct_fpr is None for curve in curves.values()):
        sentences.append(f"TPR at 10 % FPR needs {MIN_HELD_OUT} held-out records in the panel.")
    if not resamples.by_user:
        sentences.append(f"Intervals take records as independent: there are no users, or fewer than {MIN_CLUSTERS}.")
    if all(point.user_auc is None for point in points):
        sentences.append(
            f"Users were not compared: that needs a split by user and at least {MIN_USERS} users on each side."
        )
    if all(not point.exposure for point in points):
        sentences.append("Exposure was not measured: no secrets were planted (--canaries).")
    return sentences


def _counts(trained: Sequence[FinishedTrial], resamples: Resamples) -> dict[str, int]:
    looks = next(trial.looks for trial in trained if trial.looks is not None)
    return {
        "trainings": len(trained),
        "trainings_finished": sum(trial.looks is not None for trial in trained),
        "members_looked_at": int(looks.member.sum()),
        "held_out_of_all_trainings": len(resamples.held_out),
        "users_looked_at": len({user for user in looks.user.tolist() if user is not None}),
    }


def _first_trouble(trained: Sequence[FinishedTrial]) -> str:
    trouble = next((trial.outcome.why for trial in trained if trial.outcome is not None and trial.outcome.why), "")
    return f"The first: {trouble}" if trouble else "Run the same command again."
