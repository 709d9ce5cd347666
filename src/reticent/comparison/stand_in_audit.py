# SPDX-License-Identifier: Apache-2.0
"""An audit of each finished model of a comparison, and one row for each setting: what it finds at the same utility."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from reticent.auditing.case import AuditCase, read_recorded
from reticent.auditing.config import AuditConfig
from reticent.comparison.grid import Trial
from reticent.comparison.stand_ins import promise_of_texts
from reticent.core.comparison import AuditedSetting, Point, Setting
from reticent.core.finding import Estimate
from reticent.core.results import Results
from reticent.core.run_folder import RunFolder
from reticent.core.stated_epsilon import StatedEpsilon
from reticent.report.results_file import read_results
from reticent.report.summary import strongest_epsilon
from reticent.workflows.audit import audit

FOLDER = "audit"
"""In the folder of a training."""


class FinishedCell(Protocol):
    """A training with its folder, as `evaluate.FinishedTrial` has it."""

    @property
    def cell(self) -> Trial: ...

    @property
    def folder(self) -> Path: ...


def audit_trial(run: RunFolder, *, base: str, config: AuditConfig, max_tokens: int) -> None:
    """Audit the model of a training, in a folder of its own; what is there already is not done again.

    Args:
        run: of the training, with a model.
        base: what it is compared with.
        config: how.
        max_tokens: that records are cut to.
    """
    out = RunFolder(root=run.root / FOLDER)
    if out.results.is_file():
        return
    if run.settings("tune") is not None:
        audit(run, config, out=out.root, reference=base)
        return
    recorded = read_recorded(run)
    case = AuditCase(
        title=run.root.name,
        target=str(run.model),
        reference=base,
        records=recorded.records,
        membership=recorded.membership,
        canaries=recorded.canaries,
        max_tokens=max_tokens,
    )
    audit(case, config, out=out.root)


def audited_settings(
    settings: Sequence[Setting], points: Sequence[Point], trained: Sequence[FinishedCell]
) -> tuple[AuditedSetting, ...]:
    """For each setting what the audit of one of its models found: of those that were audited, the one whose held-out
    loss is nearest to the loss that all settings reach.

    Args:
        settings: compared.
        points: of all settings.
        trained: all trainings.
    """
    target = next((setting.matched.loss for setting in settings if setting.matched), None)
    rows = []
    for number, setting in enumerate(settings):
        cells = [trial for trial in trained if trial.cell.setting == number and _results(trial).is_file()]
        ends = {rate: _end(points, number, rate) for rate in sorted({trial.cell.learning_rate for trial in cells})}
        audited = {rate: end for rate, end in ends.items() if end is not None}
        if not audited:
            continue
        wanted = target if target is not None else min(end.loss.value for end in audited.values())
        rate = min(audited, key=lambda rate: (abs(audited[rate].loss.value - wanted), rate))
        first = min((trial for trial in cells if trial.cell.learning_rate == rate), key=lambda trial: trial.cell.seed)
        rows.append(_row(number, setting, first, audited[rate], read_results(_results(first))))
    return tuple(rows)


def _results(trial: FinishedCell) -> Path:
    return RunFolder(root=trial.folder / FOLDER).results


def _end(points: Sequence[Point], setting: int, rate: float) -> Point | None:
    """The last look of a setting at a learning rate."""
    looks = [point for point in points if point.setting == setting and point.learning_rate == rate]
    return max(looks, key=lambda point: point.step, default=None)


def _row(number: int, setting: Setting, trial: FinishedCell, end: Point, results: Results) -> AuditedSetting:
    bound = strongest_epsilon(results)
    words, group = _extracted(results)
    return AuditedSetting(
        setting=number,
        learning_rate=trial.cell.learning_rate,
        seed=trial.cell.seed,
        loss=end.loss,
        record_auc=_worst(results, "record"),
        user_auc=_worst(results, "user"),
        extracted=words,
        extracted_of=group,
        epsilon=None if bound is None else bound.estimate,
        promise=_promise(trial, results),
    )


def _promise(trial: FinishedCell, results: Results) -> StatedEpsilon | None:
    """The promise that the model carries: that of its training, as the audit read it, or of the texts it learned."""
    defence = trial.cell.defence
    texts = promise_of_texts(RunFolder(root=trial.folder), defence)
    if texts is not None or results.promise is None:
        return texts
    return StatedEpsilon(
        epsilon=results.promise.epsilon,
        delta=results.promise.delta,
        unit=results.promise.unit,
        relation=defence.promise.relation,
    )


def _worst(results: Results, level: str) -> Estimate | None:
    aucs = [finding.estimate for finding in results.all_findings if finding.metric == "auc" and finding.level == level]
    return max(aucs, key=lambda estimate: (estimate.lo, estimate.value), default=None)


def _extracted(results: Results) -> tuple[Estimate | None, str]:
    """The largest share of trained secrets or records that came out beyond what a control or the base gives, and of
    what."""
    rows = results.extraction.rows if results.extraction else ()
    beyond = [
        (row.above_control or row.difference or row.target, f"{row.group}, {row.attack}")
        for row in rows
        if row.metric == "share" and not row.control
    ]
    return max(beyond, key=lambda pair: (pair[0].lo, pair[0].value), default=(None, ""))
