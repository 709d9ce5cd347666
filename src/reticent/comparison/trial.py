# SPDX-License-Identifier: Apache-2.0
"""One training of the grid: train with the panel watched, measure how far the model moved, throw the weights away.

``python -m reticent.comparison.trial FOLDER NAME BASE`` does it in a process of its own.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reticent.auditing.config import AuditConfig
from reticent.comparison.defences import Defence
from reticent.comparison.grid import Method, Trial
from reticent.comparison.stand_in_audit import audit_trial
from reticent.comparison.stand_ins import StandInOrder, train_stand_in, trained_in
from reticent.core.atomic import replacing, write_text
from reticent.core.errors import BadInput, ReticentError, Unusable
from reticent.core.lock import locked
from reticent.core.membership import read_membership
from reticent.core.portable import found as found_at
from reticent.core.portable import portable
from reticent.core.progress import console
from reticent.core.record import Record, read_records
from reticent.core.run_folder import RunFolder
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.coin import uniform
from reticent.data.split_config import SplitConfig
from reticent.monitor.config import MonitorConfig
from reticent.privacy.spec import PrivacySpec
from reticent.train.config import TuneConfig
from reticent.train.diverged import Diverged
from reticent.workflows.recipe import TuneRecipe
from reticent.workflows.tune import tune

OUTCOME, MOVED, JOB, LOG = "cell.json", "moved.parquet", "job.json", "cell.log"
KL_RECORDS = 48
"""Held-out records on which the final weights are held against the base."""


@dataclass(frozen=True, kw_only=True)
class TrialSettings:
    """The settings that all trainings have in common.

    Args:
        base: the model before training.
        split, canaries, training, monitor: before the cell's method, learning rate, seed and defence are put in.
        keep_models: keep the weights.
        audit: how each finished model is audited; None for not at all.
        small_base: the small model that is tuned where `base` is steered; empty where none is.
        left_out: what was asked for and is not compared, a sentence each.

    Examples:
        >>> shared = TrialSettings(
        ...     base="smollm2-135m", split=SplitConfig(), canaries=CanaryConfig(), training=TuneConfig(epochs=1),
        ...     monitor=MonitorConfig(monitor=True),
        ... )
        >>> shared.training.epochs, shared.keep_models
        (1, False)
    """

    base: str
    split: SplitConfig
    canaries: CanaryConfig
    training: TuneConfig
    monitor: MonitorConfig
    keep_models: bool = False
    audit: AuditConfig | None = None
    small_base: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def further(self) -> dict[str, Any]:
        """Settings that folders of earlier versions have not, where they are not at their defaults."""
        audit = {"audit": asdict(self.audit)} if self.audit is not None else {}
        return audit | ({"small_base": Path(self.small_base).name} if self.small_base else {})


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """How a training ended, as ``cell.json`` says it; fields as in `reticent.core.comparison.TrialRow`."""

    key: str
    status: str
    why: str = ""
    trained_parameters: int = 0
    seconds: float = 0.0


def run_trial(folder: Path, cell: Trial, shared: TrialSettings, records: Sequence[Record], key: str) -> TrialOutcome:
    """Do one training in ``folder``, or take the one that is there.

    What cannot be trained, or comes to nothing, is an outcome, not an error: the other cells go on. A cell that broke
    for another reason (a full disk, memory, a fault) is tried again by the next call.

    Raises:
        Unusable: not even the outcome can be written; no cell could go on.
    """
    with working_in(folder):
        return _run_cell(folder, cell, shared, records, key)


def working_in(folder: Path) -> AbstractContextManager[None]:
    """Take turns with other processes at the training in ``folder``: one may outlive the call that started it."""
    return locked(folder.with_name(f"{folder.name}.cell"), wait=True)


def _run_cell(folder: Path, cell: Trial, shared: TrialSettings, records: Sequence[Record], key: str) -> TrialOutcome:
    earlier = read_outcome(folder, key)
    if earlier is not None:
        _drop_weights(folder, shared)
        return earlier
    started = time.perf_counter()
    parameters = 0
    (folder / LOG).unlink(missing_ok=True)
    try:
        run = _train(folder, cell, shared, records)
        parameters = int(_log(trained_in(run)).get("trained_parameters", 0))
        _measure_kl(run, shared)
        if shared.audit is not None:
            audit_trial(run, base=shared.base, config=shared.audit, max_tokens=shared.training.max_tokens)
        status, reason = "done", ""
    except Unusable as error:  # of this machine, at this time: the next call tries again
        status, reason = "failed", str(error)
    except ReticentError as error:
        status = "diverged" if isinstance(error, Diverged) else "refused"
        reason = str(error)
    except OSError as error:
        if error.errno is None:
            raise
        status, reason = "failed", f"{error.strerror} ({Path(error.filename).name if error.filename else 'a file'})"
    except Exception as error:  # noqa: BLE001 - one cell must not take the grid down with it
        write_text(folder / LOG, traceback.format_exc())
        status, reason = "failed", f"{type(error).__name__}; see {LOG} in its folder"
    outcome = TrialOutcome(key=key, status=status, why=reason, trained_parameters=parameters,
                      seconds=round(time.perf_counter() - started, 1))  # fmt: skip
    RunFolder(root=folder).make()
    write_text(folder / OUTCOME, json.dumps(asdict(outcome), indent=2) + "\n")
    if status != "failed":
        _drop_weights(folder, shared)
    gc.collect()
    return outcome


def is_worth_keeping(folder: Path) -> bool:
    """True where the training in ``folder`` came to an end that says something about it."""
    try:
        return json.loads((folder / OUTCOME).read_text(encoding="utf-8"))["status"] != "failed"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _drop_weights(folder: Path, shared: TrialSettings) -> None:
    if not shared.keep_models:
        shutil.rmtree(folder / "model", ignore_errors=True)


def read_outcome(folder: Path, key: str) -> TrialOutcome | None:
    """The outcome of a finished cell; None where there is none, or one that is worth another try.

    Raises:
        BadInput: the folder holds another training.
    """
    path = folder / OUTCOME
    if not path.exists():
        return None
    try:
        outcome = TrialOutcome(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BadInput(str(path), "is no longer what was written", f"Delete {folder} to train it again.") from error
    if outcome.key != key:
        raise BadInput(
            str(folder),
            "holds a training with other settings",
            "Choose another folder (--out), or delete this one to train it again.",
        )
    return None if outcome.status == "failed" else outcome


def _train(folder: Path, cell: Trial, shared: TrialSettings, records: Sequence[Record]) -> RunFolder:
    defence = cell.defence
    if defence.stand_in:
        return train_stand_in(folder, _order(cell, shared), records)
    private = defence.is_private
    training = _training(cell, shared)
    run = tune(
        records,
        base=shared.base,
        out=folder,
        title=cell.name,
        recipe=TuneRecipe(
            split=replace(shared.split, **defence.split),
            canaries=replace(shared.canaries, **defence.canaries),
            training=training,
            privacy=PrivacySpec(**defence.privacy),
            objectives=defence.training_objectives,
            monitor=MonitorConfig() if private else replace(shared.monitor, **defence.monitor),
        ),
    )
    if private:
        from reticent.comparison.evaluate_after import evaluate_after
        from reticent.train.checkpoints import recall_exact

        log = _log(run)
        evaluate_after(
            run,
            base=shared.base,
            monitor=shared.monitor,
            training=training,
            steps=max((int(row.get("step", 0)) for row in log["history"]), default=1),
            epochs=float(log["config"]["epochs"]),
            seconds=float(recall_exact(run.model)["seconds_since_start_or_resume"]),
        )
    return run


def _training(cell: Trial, shared: TrialSettings) -> TuneConfig:
    return replace(
        shared.training,
        method=cell.method.method,
        method_params=dict(cell.method.params),
        learning_rate=cell.learning_rate,
        lr_scheduler_type=cell.schedule,
        seed=cell.seed,
    )


def _order(cell: Trial, shared: TrialSettings) -> StandInOrder:
    return StandInOrder(
        name=cell.name,
        defence=cell.defence,
        base=shared.base,
        small_base=shared.small_base,
        split=replace(shared.split, **cell.defence.split),
        canaries=replace(shared.canaries, **cell.defence.canaries),
        training=_training(cell, shared),
        monitor=shared.monitor,
    )


def _log(run: RunFolder) -> dict[str, Any]:
    """``train_log.json`` beside the weights."""
    log: dict[str, Any] = json.loads((run.model / "train_log.json").read_text(encoding="utf-8"))
    return log


def _measure_kl(run: RunFolder, shared: TrialSettings) -> None:
    """``moved.parquet``: for some held-out records the sum of KL(target‖base) over their tokens, and how many."""
    from reticent.models.load import load
    from reticent.score.divergence import divergence

    if (run.root / MOVED).exists():
        return
    coins = read_membership(run.membership)
    usable = coins.attacked & ~coins.member
    sample = sorted(coins.record_id[usable].tolist(), key=lambda id_: uniform(0, "moved", id_))[:KL_RECORDS]
    by_id = {record.id: record for record in read_records(run.records)}
    texts = [by_id[id_] for id_ in sample]
    training = shared.training
    target, base = (
        load(source, dtype=training.dtype, device=training.device) for source in (str(run.model), shared.base)
    )
    moved = divergence(target, base, texts, max_tokens=training.max_tokens)
    table = pa.table(
        {
            "record_id": pa.array(sample, pa.string()),
            "user": pa.array([record.user for record in texts], pa.string()),
            "kl": pa.array(moved.kl),
            "tokens": pa.array(moved.tokens, pa.int32()),
        }
    )
    with replacing(run.root / MOVED) as temporary:
        pq.write_table(table, temporary)


def write_job(folder: Path, cell: Trial, shared: TrialSettings, key: str) -> None:
    """``job.json``: all that a process of its own needs to know besides the records."""
    settings = asdict(shared) | {"base": portable(shared.base, folder)}
    settings["small_base"] = portable(shared.small_base, folder)
    job = {"cell": asdict(cell), "shared": settings, "key": key}
    write_text(folder / JOB, json.dumps(job, indent=2) + "\n")


def read_job(folder: Path) -> tuple[Trial, TrialSettings, str]:
    """The content of the file that ``write_job`` wrote."""
    job: dict[str, Any] = json.loads((folder / JOB).read_text(encoding="utf-8"))
    cell, shared = job["cell"], job["shared"]
    method = cell["method"] | {"learning_rates": tuple(cell["method"]["learning_rates"])}
    return (
        Trial(**cell | {"method": Method(**method), "defence": Defence(**cell["defence"])}),
        TrialSettings(
            base=found_at(shared["base"], folder),
            split=SplitConfig(**shared["split"]),
            canaries=CanaryConfig(**shared["canaries"]),
            training=TuneConfig(**shared["training"]),
            monitor=MonitorConfig(**shared["monitor"]),
            keep_models=shared["keep_models"],
            audit=None if shared["audit"] is None else AuditConfig(**shared["audit"]),
            small_base=found_at(shared["small_base"], folder),
        ),
        job["key"],
    )


def main(root: str, name: str, base: str) -> int:
    """Do the cell ``name`` of the comparison in ``root``, of the model ``base``; 0 unless nothing can be written."""
    folder = Path(root) / "cells" / name
    cell, shared, key = read_job(folder)
    shared = replace(shared, base=base)
    outcome = run_trial(folder, cell, shared, read_records(Path(root) / "records.parquet"), key)
    console.print(f"{name}: {outcome.status} {outcome.why}", highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
