# SPDX-License-Identifier: Apache-2.0
"""From a run to the same model without some of its records: who is to be forgotten, how, and until when."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.atomic import replacing_folder
from reticent.core.errors import BadInput
from reticent.core.manifest import environment, now, read_manifest, write_manifest
from reticent.core.outputs import refuse_empty
from reticent.core.portable import portable
from reticent.core.processes import refuse_several
from reticent.core.progress import console
from reticent.core.record import Record, fingerprint
from reticent.core.run_folder import RunFolder
from reticent.models.tuned import TuningInfo, read_tuned
from reticent.train.config import TuneConfig
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.request_file import write_request
from reticent.unlearning.request_plan import RequestPlan, plan_request
from reticent.unlearning.unseen_file import UnseenRow, write_unseen

OVERFITTED = "overfitted"
"""Folder in a run folder: the model that a negation goes back from, while that is made."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Unlearning:
    """An unlearning with nothing left open.

    Args:
        plan: the request against the run.
        config: how.
        root: the run of `reticent tune` at the root of the chain.
        parent: the run whose model is gone on from.
        run: the run folder that is made.
        tuned: how the parent's model was made.
    """

    plan: RequestPlan
    config: UnlearnConfig
    root: RunFolder
    parent: RunFolder
    run: RunFolder
    tuned: TuningInfo

    @property
    def forget(self) -> list[Record]:
        return self.plan.forget.records

    @property
    def retained(self) -> list[Record]:
        return [*self.plan.forget.retained, *self.plan.forget.rows.planted]

    def steering(self, side: str) -> list[Record]:
        """Rows of a side by which the end is told: those of the half that steers, or all where nothing is to spare."""
        records = self.forget if side == "forget" else list(self.plan.unseen.records)
        parts = self.plan.halves.forget if side == "forget" else self.plan.halves.unseen
        if not self.plan.halves.steers:
            return records
        return [record for record, part in zip(records, parts, strict=True) if part == "steer"]


def unlearn(
    run: RunFolder | str | Path,
    *,
    out: str | Path,
    forget: ForgetRequest,
    config: UnlearnConfig | None = None,
) -> RunFolder:
    """Take records or people out of a run's model, and leave a run folder that can be verified.

    The same call again goes on from the last checkpoint, or returns at once when it is done. No text is copied: the
    folder holds ids, and texts are read from the run at the root of the chain.

    Args:
        run: of `reticent tune`, or of an earlier unlearning, which is gone on from.
        out: the run folder to make.
        forget: who or what is to be forgotten.
        config: how; None for the defaults.

    Raises:
        BadInput: the request names nothing that the model was trained on, or everything; the method cannot be used on
            this model; ``out`` holds another unlearning or something of yours; the retain budget broke at the first
            look, and nothing is kept.
    """
    refuse_several("reticent.unlearn")
    config = config or UnlearnConfig()
    parent = run if isinstance(run, RunFolder) else RunFolder(root=Path(run))
    refuse_empty("out", out)
    folder = RunFolder(root=Path(out))
    folder.refuse_foreign("unlearn", {"the run": parent.root})
    plan = plan_request(parent, forget, seed=config.seed)
    tuned = read_tuned(parent.model)
    if tuned is None:
        raise BadInput(str(parent.model), "was not made by reticent", "Give a run folder of `reticent tune`.")
    job = _Unlearning(
        plan=plan,
        config=config,
        root=plan.forget.rows.chain.root,
        parent=parent,
        run=folder,
        tuned=tuned,
    )
    _refuse_method(job)
    _unlearn(job)
    return folder


def describe(run: RunFolder | str | Path, forget: ForgetRequest, config: UnlearnConfig | None = None) -> list[str]:
    """A request and its price, in lines for a person; nothing is trained or written.

    Raises:
        BadInput: as `unlearn`.
    """
    from reticent.models.load import load_tokenizer
    from reticent.stats.equivalence_margin import EquivalenceDesign, margin_shown

    parent = run if isinstance(run, RunFolder) else RunFolder(root=Path(run))
    config = config or UnlearnConfig()
    plan = plan_request(parent, forget, seed=config.seed)
    tuned = read_tuned(parent.model)
    tokenizer = None if tuned is None else load_tokenizer(tuned.base)
    log = plan.forget.rows.chain.root.model / "train_log.json"
    seconds = json.loads(log.read_text(encoding="utf-8")).get("seconds_since_start_or_resume")
    return plan.describe(
        margin=lambda rows, unseen: margin_shown(EquivalenceDesign(forget=rows, unseen=unseen)),
        tokens=None if tokenizer is None else lambda text: len(tokenizer(text)["input_ids"]),
        training_seconds=seconds,
    )


def _unlearn(job: _Unlearning) -> None:
    run, config = job.run, job.config
    data = fingerprint(job.plan.forget.rows.records)
    settings = {
        "parent": portable(str(job.parent.root), run.root),
        "data": data,
        "request": job.plan.on_record,
        "unlearning": config.on_record,
    }
    with run.alone():
        run.refuse_other("unlearn", settings, begun=lambda: _begun(run))
        with run.kept_if(lambda: _begun(run)):
            run.claim("unlearn", settings)
            write_request(run.request, job.plan.rows)
            unseen = zip(job.plan.unseen.records, job.plan.halves.unseen, strict=True)
            write_unseen(run.unseen, [UnseenRow(record.id, part) for record, part in unseen])
            _make_model(job)
        if config.resume and run.manifest.exists() and "unlearn" in read_manifest(run.manifest):
            return  # it was finished before
        about = {
            "title": run.root.name,
            "parent": settings["parent"],
            "root": portable(str(job.root.root), run.root),
            "request": job.plan.on_record,
            "unlearning": config.on_record,
            "finished": now(),
        }
        write_manifest(run.manifest, unlearn=about, environment=environment())


def _make_model(job: _Unlearning) -> None:
    from reticent.train.checkpoints import close_folder
    from reticent.train.unlearning.method import UNLEARNERS

    method = UNLEARNERS.get(job.config.method)
    {"loss": _train, "weights": _negate, "exact": _retrain}[method.kind](job)
    close_folder(job.run.model)  # a call that was killed once the model was there left them


def _train(job: _Unlearning) -> None:
    """Unlearn by a loss, until the panel says that it is enough."""
    from reticent.train.checkpoints import close_folder
    from reticent.train.objectives.unlearning import Unlearning
    from reticent.train.trainer import tune
    from reticent.unlearning.stopping import NothingKept

    config = job.config
    training = _training(job)
    finished = config.resume and job.run.model.exists()
    callbacks = _stopping(job, training) if config.stop == "panel" and not finished else []
    objective = Unlearning(
        method=config.method,
        params=config.method_params,
        forget_weight=config.forget_weight,
        retain_weight=config.retain_weight,
        token_quantile=config.token_quantile,
        every=config.every or 0,
    )
    try:
        tune(
            str(job.parent.model),
            job.forget,
            job.run.model,
            training,
            objectives=(objective,),
            record_sets={"retain": job.retained, "unseen": list(job.plan.unseen.records)},
            callbacks=callbacks,
            goes_on=True,
            request=job.plan.forget.fingerprint,
        )
    except NothingKept:
        close_folder(job.run.model)  # going on would end the same way
        raise


def _negate(job: _Unlearning) -> None:
    """Over-fit what is to be forgotten, take that step back, and take the over-fitted model away."""
    from reticent.models.weights import full_disk_is_an_os_error
    from reticent.train.outcome import KIND
    from reticent.train.trainer import tune
    from reticent.unlearning.negation import negate

    place = job.run.root / OVERFITTED
    if not (job.run.model.exists() and job.config.resume):
        place.mkdir(mode=0o700, exist_ok=True)
        over = tune(str(job.parent.model), job.forget, place / "model", _training(job), goes_on=True)
        alpha = float(job.config.method_params.get("alpha", 1.0))
        with full_disk_is_an_os_error(), replacing_folder(job.run.model, kind=KIND) as folder:
            negate(job.parent.model, over, folder, alpha=alpha, request=job.plan.forget.fingerprint)
    shutil.rmtree(place, ignore_errors=True)


def _retrain(job: _Unlearning) -> None:
    """Train again without what is to be forgotten."""
    from reticent.unlearning.exact import retrain

    retrain(job.root, job.retained, job.run.model, resume=job.config.resume)


def _training(job: _Unlearning) -> TuneConfig:
    """The settings of a training that goes on, with the method's own where nothing else was said."""
    from reticent.models.tuning.method import TUNINGS
    from reticent.train.unlearning.method import UNLEARNERS

    config, method = job.config, UNLEARNERS.get(job.config.method)
    rate = config.learning_rate
    if rate is None:
        full = TUNINGS.get("full").learning_rate
        rate = (method.learning_rate or full) * TUNINGS.get(job.tuned.method).learning_rate / full
    about = read_manifest(job.root.manifest).get("tune", {})
    return TuneConfig(
        method=job.tuned.method,
        method_params=job.tuned.params,
        epochs=config.epochs or method.epochs,
        learning_rate=rate,
        warmup=0.0,
        weight_decay=0.0,
        batch_size=config.batch_size,
        max_tokens=about.get("max_tokens") or TuneConfig.max_tokens,
        seed=config.seed,
        dtype=config.dtype,
        device=config.device,
        resume=config.resume,
    )


def _stopping(job: _Unlearning, training: TuneConfig) -> list[Any]:
    """The callback that looks at a panel."""
    from reticent.models.load import load
    from reticent.train.checkpoints import folder_for
    from reticent.unlearning.panel import make_panel, table_of
    from reticent.unlearning.stopping import PanelStopping

    unseen = job.steering("unseen")
    if not unseen:
        raise BadInput(
            "stop='panel'",
            "the run has no text that was never trained on, so nothing says when a text looks like one",
            "Run all epochs (--stop epochs).",
        )
    base = load(job.tuned.base, dtype="float32", device=job.config.device)
    panel = make_panel(job.steering("forget"), unseen, job.retained, base.tokenizer, max_tokens=training.max_tokens)
    table = table_of(base.model, panel.rows, job.config.dtype)
    del base
    plan = _look_plan(job, panel, table, training)
    console.print(f"{plan.looks} looks at most; like unseen is an AUC within 0.5 ± {plan.margin:.2f}", highlight=False)
    return [
        PanelStopping(
            panel,
            table,
            plan,
            folder=folder_for(job.run.model),
            file=job.run.looks,
            every=job.config.every or 0,
            dtype=job.config.dtype,
        )
    ]


def _look_plan(job: _Unlearning, panel: Any, base: Any, training: TuneConfig) -> Any:
    """Margin and number of looks, from sizes and from how alike the base finds texts of one person."""
    from reticent.unlearning.look_plan import plan_looks

    steps = math.ceil(len(job.forget) / (training.batch_size or 1))
    epochs = training.epochs or 1
    looks = epochs if job.config.every is None else math.ceil(steps * epochs / job.config.every)
    return plan_looks(
        panel, base, looks=looks, wanted=job.config.margin, budget=job.config.retain_budget, seed=job.config.seed
    )


def _refuse_method(job: _Unlearning) -> None:
    """Refuse what cannot be used on this model, before anything is written."""
    from reticent.train.unlearning.method import UNLEARNERS

    config, method = job.config, UNLEARNERS.get(job.config.method)
    method.check(config.method_params)
    given = f"method={method.name!r}"
    if method.name == "shards":
        raise BadInput(given, "the run was not trained in shards", "Choose retrain.")
    if method.needs_all_weights and job.tuned.storage != "weights":
        raise BadInput(
            f"{given} on a run with {job.tuned.method}",
            "it changes matrices of the model itself, and the run has an adapter on them",
            "Choose npo, or tune all weights (reticent tune --method full).",
        )
    if method.kind != "loss":
        names = ("forget_weight", "retain_weight", "token_quantile")
        beside = next((name for name in names if getattr(config, name) is not None), "")
        if beside:
            raise BadInput(f"{beside} with {given}", "it has no loss", f"Leave out --{beside}.")


def _begun(run: RunFolder) -> bool:
    """Is there a model, or a whole checkpoint to go on from?"""
    from reticent.train.checkpoints import WHOLE

    over = RunFolder(root=run.root / OVERFITTED)
    return any(place.model.exists() or any(place.checkpoints.glob(f"checkpoint-*/{WHOLE}")) for place in (run, over))
