# SPDX-License-Identifier: Apache-2.0
"""A comparison from records to report: train every cell of the grid, read what it left, conclude."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from reticent.comparison.cell_processes import Start, in_process, train_elsewhere
from reticent.comparison.config import JOIN, check_jobs
from reticent.comparison.evaluate import collect, evaluate
from reticent.comparison.grid import Grid, with_rates
from reticent.comparison.ray_trainings import ray_trainings, trainings_at_once
from reticent.comparison.shared_cells import Cell, SharedCells, tell_of
from reticent.comparison.stand_ins import drop_stand_ins
from reticent.comparison.trial import LOG as CELL_LOG
from reticent.comparison.trial import (
    OUTCOME,
    TrialOutcome,
    TrialSettings,
    is_worth_keeping,
    read_outcome,
    run_trial,
)
from reticent.core.comparison import Comparison
from reticent.core.errors import BadInput
from reticent.core.outputs import refuse_empty
from reticent.core.portable import portable, stands_for
from reticent.core.processes import refuse_several
from reticent.core.progress import console, progress
from reticent.core.record import Record, fingerprint, write_records
from reticent.core.run_folder import RunFolder
from reticent.data.stability import refuse_unstable
from reticent.models.tuning.method import TUNINGS, check_method
from reticent.report.comparison_file import write_comparison
from reticent.report.comparison_page import write_comparison_page
from reticent.spending.ledger import ledger
from reticent.train.checkpoints import WHOLE
from reticent.train.hardening import HardenConfig
from reticent.workflows.inputs import without_copies

CONFIG = "compare"


def compare(
    records: Sequence[Record],
    *,
    grid: Grid,
    shared: TrialSettings,
    out: str | Path,
    title: str = "",
    jobs: int | str | None = None,
    n_boot: int = 1000,
    inputs: Mapping[str, str | Path | None] | None = None,
) -> Comparison:
    """Train all cells of ``grid`` on one split and compare them; writes ``comparison.json`` and ``report.html``.

    The same call again goes on with the cells that are missing. A call with more methods, rates, defences, schedules or
    seeds in the same folder trains only what is new. A cell that diverges or is refused is a row of the outcome.

    Args:
        records: unique ids, private text; exact copies are dropped, with trainings that are private per user only those
            within a user. Under a promise none may depend on others, see `workflows.tune`.
        grid: methods that leave their learning rates out get three around their own.
        shared: what all cells have in common.
        out: folder of the comparison; each cell is a run folder in ``cells/``.
        title: for the report.
        jobs: trainings at the same time, each a process; None for a quarter of the cores. 1 trains in this process.
            "join" shares them with all who make this same call on one file system, "ray" or "ray:4" with a Ray cluster.
        n_boot: resamples behind the intervals.
        inputs: what else is read and where it lies, such as the file of the records: ``out`` may be none of it.

    Raises:
        BadInput: the folder holds a comparison of other data, model or scale, or something of yours, or another process
            works in it; a method does not exist; no training was
            finished; a setting for the data voids a promise; several processes.
    """
    refuse_several("reticent.compare")
    check_jobs(jobs)
    refuse_unstable_cells(grid, shared)
    refuse_empty("out", out)
    root = Path(out)
    methods = tuple(with_rates(method, TUNINGS.get(method.method).learning_rate) for method in grid.methods)
    for method in methods:
        check_method(method.method, method.params)
    grid = replace(grid, methods=methods)
    folder = RunFolder(root=root)
    folder.refuse_foreign("compare", {"the base model": shared.base, **(inputs or {})})
    shared = replace(shared, split=replace(shared.split, copies=_copies(shared, grid)))
    records = without_copies(records, within_users=shared.split.copies == "user")
    shared = one_split(shared, grid, records)
    base = (folder.settings(CONFIG) or {}).get("base")
    named = base if base is not None and stands_for(base, shared.base, root) else portable(shared.base, root)
    about: dict[str, Any] = {"base": named, "data": fingerprint(records)}
    about |= {name: asdict(getattr(shared, name)) for name in ("split", "canaries")}
    about |= {"training": shared.training.on_record, "monitor": asdict(shared.monitor)} | shared.further
    study = _Study(root=root, grid=grid, shared=shared, records=records, about=about)
    conclude = partial(_conclude, study, title=title or root.name, n_boot=n_boot)
    if jobs == JOIN:
        sharing = SharedCells(cells=study.cells, shared=shared, records=records, is_claimed=study.is_claimed)
        return sharing.lead_or_help(root, asked=f"{title}, {n_boot}", lead=lambda: conclude(sharing.train_all))
    if isinstance(jobs, str):
        return conclude(lambda: study.train_on_ray(trainings_at_once(jobs)))
    at_once = jobs or max((os.cpu_count() or 1) // 4, 1)
    return conclude(lambda: study.train_all(at_once, None if at_once == 1 else partial(in_process, at_once)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Study:
    """A comparison whose settings are settled.

    Args:
        root: its folder.
        grid, shared, records: of all trainings.
        about: settings that one folder has once.
    """

    root: Path
    grid: Grid
    shared: TrialSettings
    records: Sequence[Record]
    about: dict[str, Any]

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of the settings."""
        return hashlib.sha256(json.dumps(self.about, sort_keys=True, default=str).encode()).hexdigest()

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The trainings, each with its folder.

        Raises:
            BadInput: two have one name.
        """
        cells = tuple(
            Cell(trial=trial, folder=self.root / "cells" / trial.name, key=trial.key(self.key))
            for trial in self.grid.cells
        )
        if len({cell.folder for cell in cells}) < len(cells):
            raise BadInput("the grid", "has two trainings of one name", "Give hyper-parameters that differ by more.")
        return cells

    def train_all(
        self, at_once: int, start: Start | None, within: AbstractContextManager[None] | None = None
    ) -> list[TrialOutcome]:
        """Train all cells.

        Args:
            at_once: how many at the same time.
            start: trains a cell in another process; None trains one after another in this one.
            within: ends what was started where this is left by an error, which otherwise waits for it.
        """
        # Refuses another training before hours of work.
        is_done = [read_outcome(cell.folder, cell.key) is not None for cell in self.cells]

        def do(number: int) -> TrialOutcome:
            cell = self.cells[number]
            name = cell.trial.name
            console.print(f"training {number + 1} of {len(is_done)}: {name}", style="bold", highlight=False)
            if start is None:
                outcome = run_trial(cell.folder, cell.trial, self.shared, self.records, cell.key)
            else:
                outcome = train_elsewhere(self.root, cell, self.shared, start)
            tell_of(name, outcome)
            if not is_done[number]:
                advance(1)
            return outcome

        numbers = range(len(is_done))
        with (
            progress("Comparing", len(is_done), unit="trainings", done=sum(is_done)) as advance,
            ThreadPoolExecutor(max_workers=at_once) as pool,
            within or nullcontext(),
        ):
            return [do(number) for number in numbers] if start is None else list(pool.map(do, numbers))

    def train_on_ray(self, count: int) -> list[TrialOutcome]:
        """Train all cells on a Ray cluster, ``count`` at the same time."""
        models = (self.shared.base, self.shared.small_base)
        with ray_trainings(count, self.shared.training.device, models) as there:
            return self.train_all(there.at_once, there.train, there.ended_on_error())

    def is_claimed(self) -> bool:
        """True once the hand that leads has written the settings and the records of the folder."""
        folder = RunFolder(root=self.root)
        folder.refuse_other(CONFIG, self.about)
        return folder.settings(CONFIG) is not None and folder.records.exists()


def _conclude(study: _Study, train: Callable[[], list[TrialOutcome]], *, title: str, n_boot: int) -> Comparison:
    """Train, read what the trainings left, and write the comparison; alone in the folder."""
    root, grid, shared, about, records = study.root, study.grid, study.shared, study.about, study.records
    folder = RunFolder(root=root)
    with folder.alone():
        folder.refuse_other(CONFIG, about, begun=lambda: _begun(folder))
        with folder.kept_if(lambda: _begun(folder)):
            folder.claim(CONFIG, about)
            write_records(folder.records, records)
            outcomes = train()
            drop_stand_ins(root, keep=shared.keep_models)
            trained = collect(root, grid, outcomes)
            comparison = evaluate(grid, trained, title=title, provenance=_provenance(grid, about), n_boot=n_boot)
        groups = ledger([root]).groups
        comparison = replace(comparison, refused=(*comparison.refused, *shared.left_out))
        comparison = replace(comparison, together=tuple(cost for group in groups for cost in group.totals))
        write_comparison(root / "comparison.json", comparison)
        write_comparison_page(folder.report, comparison)
    return comparison


def _begun(folder: RunFolder) -> bool:
    """True if any training came to something: it ended, spent privacy, has a checkpoint, or broke and left a log."""
    cells = folder.root / "cells"
    marks = (f"*/.model.training/checkpoint-*/{WHOLE}", "*/.model.begun.jsonl", "*/model", f"*/{CELL_LOG}")
    if any(next(cells.glob(mark), None) is not None for mark in marks):
        return True
    return any(is_worth_keeping(path.parent) for path in cells.glob(f"*/{OUTCOME}"))


def one_split(shared: TrialSettings, grid: Grid, records: Sequence[Record]) -> TrialSettings:
    """``shared`` with what each training would choose by itself settled once, so that all have the same coins and
    secrets.

    Coins are thrown for the unit of the promise where some trainings are private, so that it can be audited; else for
    users where there are users. With private trainings secrets are planted once.
    """
    units = units_of(grid)
    split, canaries = shared.split, shared.canaries
    if split.split_unit == "auto":
        of_users = "user" in units or (not units and all(record.user is not None for record in records))
        split = replace(split, split_unit="user" if of_users else "record")
    if canaries.canary_repetitions == "auto" and units:
        canaries = replace(canaries, canary_repetitions="1")
    return replace(shared, split=split, canaries=canaries)


def refuse_unstable_cells(grid: Grid, shared: TrialSettings, *more: Any) -> None:
    """Refuse what would make the training rows of one unit depend on another, in any training that is private.

    Args:
        more: further settings, such as `DataConfig` where the records are yet to be read.

    Raises:
        BadInput: see `data.stability.refuse_unstable`.
    """
    for defence in grid.defences:
        if defence.is_private:
            split, canaries = replace(shared.split, **defence.split), replace(shared.canaries, **defence.canaries)
            unit = defence.promise.unit
            refuse_unstable(unit, *more, split, canaries, HardenConfig(**defence.harden))


def units_of(grid: Grid) -> set[str]:
    """The units that the private trainings of the grid protect."""
    return {defence.promise.unit for defence in grid.defences if defence.is_private}


def _copies(shared: TrialSettings, grid: Grid) -> str:
    """The copies that are dropped in all trainings: where one is private per user, only those within a user."""
    if shared.split.copies != "auto":
        return shared.split.copies
    return "user" if "user" in units_of(grid) else "all"


def _provenance(grid: Grid, about: dict[str, Any]) -> dict[str, Any]:
    return about | {
        "methods": {method.name: list(method.learning_rates) for method in grid.methods},
        "defences": {defence.name: defence.about for defence in grid.defences},
        "lr_scheduler_types": list(grid.schedules),
        "seeds": list(grid.seeds),
    }
