# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a model on records. The same call again goes on where a killed one stopped, to the same weights."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainingArguments

from reticent.core.atomic import replacing_folder
from reticent.core.errors import BadInput
from reticent.core.lock import locked
from reticent.core.progress import console, progress
from reticent.core.record import Record
from reticent.models.load import LoadedModel
from reticent.models.tuning.method import TUNINGS
from reticent.models.weights import full_disk_is_an_os_error
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.spec import PrivacySpec
from reticent.train import begun
from reticent.train.arguments import check_rise, steps_of
from reticent.train.assemble import arguments_for, assembled, in_bfloat16, maker, quiet, settle
from reticent.train.batches import Corpus
from reticent.train.checkpoints import WHOLE, close_folder, folder_for, open_folder
from reticent.train.checkpoints import remember as note
from reticent.train.config import BATCH_SIZE, TuneConfig, check_strategy
from reticent.train.diverged import Diverged
from reticent.train.dropout import draws
from reticent.train.follow import begin, invite
from reticent.train.held_out import HeldOutBaseline, base_loss, before_and_after, held_out_loss, sentence_of
from reticent.train.identity import is_finished
from reticent.train.leading import refuse_unled
from reticent.train.loop import Bar, InStep, TrainingEnded, TuneTrainer
from reticent.train.objectives.apply import finish
from reticent.train.objectives.objective import Objective
from reticent.train.objectives.refusals import refuse_pairs, settings_of
from reticent.train.outcome import (
    KIND,
    LOG,
    base_of,
    check_space,
    counts_of,
    disk_error,
    log_of,
    log_of_objectives,
    save,
)
from reticent.train.ranks import ranks
from reticent.train.sharding import tune_in_shards
from reticent.train.task import Task, load_base, read_texts
from reticent.train.trackers import check_trackers

if TYPE_CHECKING:
    from reticent.train.private.train import PrivateTuning

__all__ = ["LOG", "TuneConfig", "tune"]


def tune(
    base: str,
    records: Sequence[Record],
    out: str | Path,
    config: TuneConfig | None = None,
    *,
    objectives: Sequence[Objective] = (),
    record_sets: Mapping[str, Sequence[Record]] | None = None,
    held_out: Sequence[Record] = (),
    callbacks: Sequence[TrainerCallback] = (),
    privacy: PrivacySpec | None = None,
    data: str = "",
    goes_on: bool = False,
    request: str = "",
) -> Path:
    """Fine-tune ``base`` on ``records`` and save the outcome as a folder that ``models.load`` reads.

    AdamW (or SGD) with a linear schedule unless told otherwise, the batch's gradient clipped at norm 1, a checkpoint
    after each epoch. Interrupted and called again with the same arguments, it goes on from the last whole checkpoint;
    finished, it returns at once.

    Args:
        base: folder, hub id or catalogue name of a whole model.
        records: what is trained on.
        out: the folder to make: safetensors (of adapters only theirs), ``reticent_tuning.json``, ``train_log.json``.
        config: how; None for the defaults.
        objectives: what is trained on and minimised in place of the texts and their cross-entropy
            (`train.objectives`). ``dedup_users`` is not done here but by ``workflows.tune``, as it changes which
            records there are. The held-out loss stays the cross-entropy of the texts as they are.
        record_sets: further records that an objective asks for by name, such as those to be forgotten.
        held_out: a small sample whose loss is logged before training and after each epoch (in shards: at the end);
            never trained on. With ``privacy`` of units that are not trained on, chosen without a look at what is.
        callbacks: further ``TrainerCallback``s. They are not part of what makes two trainings the same.
        privacy: train with differential privacy (see ``train.private``). The promise lies as ``privacy.json`` beside
            the weights, and in ``train_log.json`` with what the self-check found. Held-out records are not protected.
        data: fingerprint of the data set that ``records`` are of; it stays on record beside ``out`` with what a private
            training spends should no model come of it.
        goes_on: ``base`` is a tuned model or adapter, and training goes on from it: its own method's weights are
            trained, with a fresh optimizer. ``config.method`` is not read.
        request: fingerprint of the request to forget that training goes on for; it stays in ``reticent_tuning.json``.

    Raises:
        BadInput: the base or the method cannot be used, no record has anything to train on, the loss is no longer
            finite (`Diverged`), the disk is full, ``out`` holds another training or another process works on it, two
            objectives cannot be combined, or a setting would void the privacy guarantee.
        GuaranteeViolated: the self-check of a private training failed; nothing of it is kept.
    """
    refuse_unled("reticent.train.trainer.tune")
    config = config or TuneConfig()
    if config.shards is not None:
        _refuse_in_shards(config.shards, callbacks=callbacks, record_sets=record_sets, privacy=privacy, goes_on=goes_on)
        return tune_in_shards(tune, base, records, Path(out), config, objectives=objectives, held_out=held_out)
    with locked(Path(out)):
        method = TUNINGS.get(config.method)
        spec = privacy if privacy is not None and privacy.is_private else None
        check_trackers(config.report_to)
        if goes_on and spec is not None:
            raise _no_promise(base)
        check_strategy(config, ranks().size, callbacks=bool(callbacks))
        refuse_pairs(objectives, settings_of(spec, strategy=config.strategy), record_sets or ())
        for chosen in objectives:
            config = chosen.settle(config)
        task = Task(
            base=base,
            records=records,
            out=Path(out),
            config=config.settled(method.learning_rate, private=spec is not None),
            method=method,
            held_out=held_out,
            callbacks=callbacks,
            spec=spec,
            objectives=tuple(objectives),
            record_sets=record_sets or {},
            data=data,
            goes_on=goes_on,
            request=request,
        )
        return _outcome(task)


def _no_promise(base: str) -> BadInput:
    return BadInput(
        f"{base} with a promise of privacy",
        "the promise would be about further steps alone, and what was trained before is in the model too",
        "Train privately from the base.",
    )


def _outcome(task: Task) -> Path:
    """The folder of the outcome, as it is there or once it is trained."""
    key = task.key
    if is_finished(task.out, key, resume=task.config.resume):
        if task.spec is None:
            close_folder(task.out)  # checkpoints that a kill between the model and them left
        console.print(f"{task.out} is finished already.", highlight=False)
        _tell(json.loads((task.out / LOG).read_text(encoding="utf-8")))
    else:
        _train(task, key)
    return task.out


def _refuse_in_shards(count: int, *, privacy: PrivacySpec | None, **others: Any) -> None:
    """Refuse what would be about one shard alone."""
    given = [name for name, value in others.items() if value]
    given += ["privacy"] if privacy is not None and privacy.is_private else []
    if given:
        raise BadInput(
            f"{given[0]} with shards={count}", "it is about one training, and these are several", "Leave one out."
        )


def _train(task: Task, key: str) -> None:
    out, config = task.out, task.config
    invite(task)
    loaded = load_base(task)
    material, sample = read_texts(task, loaded)
    checkpoint = open_folder(out, key, resume=config.resume)
    if checkpoint is not None:
        console.print(f"going on from {checkpoint.name}", highlight=False)
    started = time.perf_counter()
    private = _private(task, material.corpus, loaded)
    corpus = material.corpus if private is None else private.corpus
    arguments = arguments_for(task, loaded, evaluate=bool(sample.encoded))
    try:
        settle(task, loaded, corpus, private)
        with quiet():
            before = _before(task, loaded, sample, arguments, private=private is not None)
        trainer, tuned = assembled(task, loaded, maker(task, material, private), corpus, sample, arguments)
        check_rise(trainer, config)
        _go_on(trainer, checkpoint)
    except BadInput:
        if checkpoint is None and (private is None or not private.has_begun(out)):
            close_folder(out)  # nothing was trained: a corrected call begins anew
        raise
    check_space(trainer.model, tuned, out)
    try:
        with private.on_record(trainer, out, task.data, resumed=checkpoint is not None) if private else nullcontext():
            begin(checkpoint, private)
            before = trainer.measured_base(folder_for(out), before, goes_on=checkpoint is not None)
            _run(trainer, checkpoint, out, before, private=private is not None)
        replaced = private.replaced(out, task.data) if private else None
        log = log_of(trainer, corpus, config, time.perf_counter() - started)
        exact = {name: log[name] for name in ("records", "seconds_since_start_or_resume")}
        log = {"key": key, **log, **counts_of(corpus)} if private is None else private.published(log)
        log |= {"held_out": before_and_after(trainer, before)} if before is not None else {}
        log |= {"processes": trainer.seen.on_record} | base_of(trainer.model, tuned)
        with quiet(), replacing_folder(out, kind=KIND) as folder:
            model = save(trainer, loaded, tuned, folder, out)
            outcomes = finish(task.objectives, model, folder, material)
            log |= log_of_objectives(task.objectives, outcomes)
            if private is not None:
                log |= private.sign(trainer, folder)
                note(out, key, exact)
            (folder / LOG).write_text(json.dumps(log, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise disk_error(out, error) from error
    if private is not None:
        begun.finished(out, plan=private.plan.fingerprint, replaced=replaced)
    close_folder(out)
    _tell(log)


def _tell(log: dict[str, Any]) -> None:
    """Say whether it helped, where that was measured."""
    if sentence := sentence_of(log):
        console.print(sentence, highlight=False, soft_wrap=True)


def _private(task: Task, corpus: Corpus, loaded: LoadedModel) -> PrivateTuning | None:
    if task.spec is None:
        return None
    from reticent.train.private.train import (  # the accountant takes a second to load
        prepare,
        refuse_units_on_both_sides,
    )

    refuse_units_on_both_sides(task.spec, task.records, task.held_out)
    folder = folder_for(task.out)
    return prepare(task.spec, corpus, task.records, task.config, loaded.model, loaded.tokenizer, folder)


def _before(
    task: Task, loaded: LoadedModel, sample: Corpus, arguments: TrainingArguments, *, private: bool
) -> float | None:
    """The held-out loss of the base as it came, measured like that of the epochs; None where nothing is held out, and
    where processes are to share the model out first, which measure it together."""
    if not sample.encoded or task.is_shared_out:
        return None
    size = arguments.per_device_eval_batch_size
    return base_loss(
        folder_for(task.out),
        lambda: held_out_loss(
            loaded.model,
            sample.encoded,
            size=min(size, BATCH_SIZE) if private else size,
            pad=loaded.tokenizer.pad_token_id or 0,
            bfloat16=in_bfloat16(task.config, loaded.device),
        ),
    )


def _go_on(trainer: TuneTrainer, checkpoint: Path | None) -> None:
    """Take up what the steps so far saw.

    Raises:
        BadInput: they were made by another number of processes, and what they drew was theirs.
    """
    done = 0
    if checkpoint is not None:
        done = int(checkpoint.name.split("-")[1])
        trainer.seen.go_on(checkpoint / WHOLE)
        if draws(trainer.model):
            trainer.seen.refuse_other_number(trainer.ranks.size)
    trainer.seen.begin(done, trainer.ranks.size)


def _run(trainer: TuneTrainer, checkpoint: Path | None, out: Path, before: float | None, *, private: bool) -> None:
    """Train. Where a step led to weights that are not finite, checkpoints go, for going on would end the same way; not
    those of a private training, where the data must not decide what is left.

    Args:
        before: held-out loss of the base.
    """
    done = 0 if checkpoint is None else int(checkpoint.name.split("-")[1])
    with progress("Training", steps_of(trainer), unit="steps", done=done) as advance:
        trainer.add_callback(Bar(advance))
        if before is not None:
            trainer.add_callback(HeldOutBaseline(before, trainer.log_base))
        trainer.add_callback(InStep(trainer.seen))
        try:
            with quiet(), full_disk_is_an_os_error():
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except TrainingEnded as stopped:
            ranks().tell(stopped)
            console.print(f"training had ended {stopped}", highlight=False)
        except Diverged:
            if not private:
                close_folder(out)
            raise
        except GuaranteeViolated:
            close_folder(out)
            raise
