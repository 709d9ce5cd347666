# SPDX-License-Identifier: Apache-2.0
"""From a run to the same model without some of its records: who is to be forgotten, how, and until when."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from reticent.unlearning.schedule import Schedule
    from reticent.unlearning.shard_drop import ShardDrop

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

    @property
    def forget_known(self) -> list[Record]:
        """``forget`` without what the model does not know, as it went with a shard of an earlier request."""
        return [record for record in self.forget if not self.plan.forget.rows.was_left_out(record)]

    @property
    def retained_known(self) -> list[Record]:
        """Likewise of ``retained``: a term that keeps rows would teach these anew."""
        return [record for record in self.retained if not self.plan.forget.rows.was_left_out(record)]

    @property
    def schedule(self) -> Schedule:
        """How long, how fast, how often."""
        from reticent.train.unlearning.method import UNLEARNERS
        from reticent.unlearning.schedule import schedule_of

        return schedule_of(self.config, UNLEARNERS.get(self.config.method), self.tuned, rows=len(self.forget_known))

    def steering(self, side: str) -> list[Record]:
        """Rows of a side by which the end is told: those of the half that steers, or all where nothing is to spare."""
        records = self.forget if side == "forget" else list(self.plan.unseen.records)
        parts = self.plan.halves.forget if side == "forget" else self.plan.halves.unseen
        if self.plan.halves.steers:
            records = [record for record, part in zip(records, parts, strict=True) if part == "steer"]
        left_out = self.plan.forget.rows.was_left_out
        return [record for record in records if side != "forget" or not left_out(record)]


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
    tuned = refuse_unusable(parent, plan, config)
    _unlearn(
        _Unlearning(
            plan=plan,
            config=config,
            root=plan.forget.rows.chain.root,
            parent=parent,
            run=folder,
            tuned=tuned,
        )
    )
    return folder


def describe(run: RunFolder | str | Path, forget: ForgetRequest, config: UnlearnConfig | None = None) -> list[str]:
    """The consequences of a request, in lines for a person; nothing is trained or written.

    Raises:
        BadInput: as `unlearn`.
    """
    from reticent.models.load import load_tokenizer
    from reticent.stats.equivalence_margin import EquivalenceDesign, margin_shown
    from reticent.unlearning.retain_budget import spent

    parent = run if isinstance(run, RunFolder) else RunFolder(root=Path(run))
    config = config or UnlearnConfig()
    plan = plan_request(parent, forget, seed=config.seed)
    tuned = read_tuned(parent.model)
    tokenizer = None if tuned is None else load_tokenizer(tuned.base)
    log = plan.forget.rows.chain.root.model / "train_log.json"
    seconds = json.loads(log.read_text(encoding="utf-8")).get("seconds_since_start_or_resume")
    lines = plan.describe(
        margin=lambda rows, unseen: margin_shown(EquivalenceDesign(forget=rows, unseen=unseen)),
        tokens=None if tokenizer is None else lambda text: len(tokenizer(text)["input_ids"]),
        training_seconds=seconds,
    )
    if config.method == "shards":
        lines.append(_drop_plan(plan).sentence)
    links = plan.forget.rows.chain.links
    if links:
        lines.append(f"Retain budget: {spent(links):.1%} of {config.retain_budget:.1%} used up by earlier requests.")
    return lines


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
            "settled": _settled(job),
            "finished": now(),
        }
        if config.method == "shards":
            about["shards"] = _drop_plan(job.plan).on_record
        write_manifest(run.manifest, unlearn=about, environment=environment())


def _settled(job: _Unlearning) -> dict[str, Any]:
    """The settings that were left open, as they came out."""
    from reticent.train.unlearning.method import UNLEARNERS

    method, config = UNLEARNERS.get(job.config.method), job.config
    if method.kind == "exact":
        return {}
    settled: dict[str, Any] = {"epochs": job.schedule.epochs, "learning_rate": job.schedule.learning_rate}
    if method.kind == "loss":
        weights = {"forget_weight": config.forget_weight, "retain_weight": config.retain_weight}
        settled |= {name: getattr(method, name) if value is None else value for name, value in weights.items()}
        settled |= {"method_params": method.defaults | config.method_params}
    return settled


def _make_model(job: _Unlearning) -> None:
    from reticent.train.checkpoints import close_folder
    from reticent.train.unlearning.method import UNLEARNERS

    method = UNLEARNERS.get(job.config.method)
    if method.name == "shards":
        _drop_shards(job)
    else:
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
        every=job.schedule.every,
    )
    try:
        tune(
            str(job.parent.model),
            job.forget_known,
            job.run.model,
            training,
            objectives=(objective,),
            record_sets={"retain": job.retained_known, "unseen": list(job.plan.unseen.records)},
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
        over = tune(str(job.parent.model), job.forget_known, place / "model", _training(job), goes_on=True)
        alpha = float(job.config.method_params.get("alpha", 1.0))
        with full_disk_is_an_os_error(), replacing_folder(job.run.model, kind=KIND) as folder:
            request = job.plan.forget.fingerprint
            negate(job.parent.model, over, folder, alpha=alpha, request=request, at=job.run.model)
    shutil.rmtree(place, ignore_errors=True)


def _retrain(job: _Unlearning) -> None:
    """Train again without what is to be forgotten."""
    from reticent.unlearning.retraining import retrain

    retrain(job.root, job.retained, job.run.model, resume=job.config.resume)


def _drop_shards(job: _Unlearning) -> None:
    """Average the adapters that never saw what is to be forgotten."""
    from reticent.unlearning.shard_drop import drop

    plan = _drop_plan(job.plan)
    console.print(plan.sentence, highlight=False, soft_wrap=True)
    if not job.run.model.exists():
        with replacing_folder(job.run.model, kind="tuned model") as folder:
            drop(plan, job.parent.model, folder, at=job.run.model, request=job.plan.forget.fingerprint)


def _drop_plan(plan: RequestPlan) -> ShardDrop:
    """Shards to be left out, for this request and for all before it."""
    from reticent.unlearning.shard_drop import plan_drop

    forget = plan.forget
    before = [forget.rows.records[forget.rows.place[name]] for name in forget.rows.chain.forgotten]
    return plan_drop(forget.rows.chain.root, [*forget.records, *before], forget.retained)


def _training(job: _Unlearning) -> TuneConfig:
    """The settings of a training that goes on."""
    config, schedule = job.config, job.schedule
    about = read_manifest(job.root.manifest).get("tune", {})
    return TuneConfig(
        method=job.tuned.method,
        method_params=job.tuned.params,
        epochs=schedule.epochs,
        learning_rate=schedule.learning_rate,
        warmup=0.0,
        weight_decay=0.0,
        batch_size=config.batch_size,
        max_tokens=about.get("max_tokens") or TuneConfig.max_tokens,
        seed=config.seed,
        dtype=config.dtype,
        base_dtype=about.get("training", {}).get("base_dtype", TuneConfig.base_dtype),
        device=config.device,
        resume=config.resume,
    )


def _stopping(job: _Unlearning, training: TuneConfig) -> list[Any]:
    """The callback that looks at a panel."""
    from reticent.models.load import load
    from reticent.train.checkpoints import folder_for
    from reticent.unlearning.look_plan import plan_looks
    from reticent.unlearning.retain_budget import budget_left
    from reticent.unlearning.steering_panel import make_panel, table_of
    from reticent.unlearning.stopping import PanelStopping

    unseen = job.steering("unseen")
    if not unseen:
        raise BadInput(
            "stop='panel'",
            "the run has no text that was never trained on, so nothing says when a text looks like one",
            "Run all epochs (--stop epochs).",
        )
    base = load(job.tuned.base, dtype="float32", device=job.config.device)
    forget, retain = job.steering("forget"), job.retained_known
    panel = make_panel(forget, unseen, retain, base.tokenizer, max_tokens=training.max_tokens)
    table = table_of(base.model, panel.rows, job.config.dtype)
    del base
    plan = plan_looks(
        panel,
        table,
        looks=job.schedule.looks,
        wanted=job.config.margin,
        budget=budget_left(job.config.retain_budget, job.plan.forget.rows.chain.links),
        seed=job.config.seed,
    )
    few = "so few rows show no likeness, so it ends once the attacks' mean AUC has crossed 0.5"
    band = f"like unseen is an AUC within 0.5 ± {plan.margin:.2f}" if plan.enough else few
    console.print(f"{plan.looks} looks at most; {band}", highlight=False)
    return [
        PanelStopping(
            panel,
            table,
            plan,
            folder=folder_for(job.run.model),
            file=job.run.looks,
            every=job.schedule.every,
            dtype=job.config.dtype,
        )
    ]


def refuse_unusable(parent: RunFolder, plan: RequestPlan, config: UnlearnConfig) -> TuningInfo:
    """Refuse a method or settings that cannot be used on a run's model, before anything is written.

    Args:
        parent: whose model is gone on from.
        plan: the request against it.
        config: how.

    Returns:
        how the model was made.

    Raises:
        BadInput: they cannot.
    """
    from reticent.train.unlearning.method import UNLEARNERS
    from reticent.unlearning.retain_budget import budget_left

    tuned = read_tuned(parent.model)
    if tuned is None:
        raise BadInput(str(parent.model), "was not made by reticent", "Give a run folder of `reticent tune`.")
    method = UNLEARNERS.get(config.method)
    method.check(config.method_params)
    given = f"method={method.name!r}"
    if method.name == "shards":
        _drop_plan(plan)
    if method.needs_all_weights and tuned.storage != "weights":
        raise BadInput(
            f"{given} on a run with {tuned.method}",
            "it changes matrices of the model itself, and the run has an adapter on them",
            "Choose npo, or tune all weights (reticent tune --method full).",
        )
    if method.kind != "exact" and all(plan.forget.rows.was_left_out(record) for record in plan.forget.records):
        raise BadInput(
            f"the request with {given}",
            "names rows that this model does not know: they went with a shard that an earlier request left out",
            "Choose shards, which puts the request on record and takes no step, or retrain.",
        )
    if method.kind == "loss" and config.stop == "panel":
        budget_left(config.retain_budget, plan.forget.rows.chain.links)
    if method.kind != "loss":
        names = ("forget_weight", "retain_weight", "token_quantile")
        beside = next((name for name in names if getattr(config, name) is not None), "")
        if beside:
            raise BadInput(f"{beside} with {given}", "it has no loss", f"Leave out --{beside}.")
    return tuned


def _begun(run: RunFolder) -> bool:
    """Is there a model, or a whole checkpoint or a shard to go on from?"""
    from reticent.train.checkpoints import WHOLE
    from reticent.train.sharding import has_begun

    over = RunFolder(root=run.root / OVERFITTED)
    places = [place for place in (run, over) if place.root.exists()]
    begun = any(place.model.exists() or any(place.checkpoints.glob(f"checkpoint-*/{WHOLE}")) for place in places)
    return begun or has_begun(run.shards)
