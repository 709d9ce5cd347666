# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a model on records. The same call again goes on where a killed one stopped, to the same weights."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, TrainerCallback, TrainingArguments, set_seed
from transformers.utils import logging as hf_logging

from reticent.core.atomic import refuse_foreign_folder, replacing_folder
from reticent.core.errors import BadInput, Unusable
from reticent.core.lock import locked
from reticent.core.manifest import environment, now
from reticent.core.portable import portable, remember
from reticent.core.progress import console, progress
from reticent.core.record import Record, fingerprint
from reticent.models import adapters, catalog
from reticent.models.context import context_length
from reticent.models.encode import EncodedRecord
from reticent.models.load import LoadedModel, has_bfloat16, load
from reticent.models.locate import is_hub_id, locate
from reticent.models.tuned import TuningInfo, name_base
from reticent.models.tuning.method import TUNINGS, Tuning, trained_parameters
from reticent.models.weights import fingerprint_weights, full_disk_is_an_os_error
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.spec import PrivacySpec
from reticent.train import begun
from reticent.train.arguments import arguments_of, check_rise, steps_of
from reticent.train.batches import NOTHING, Corpus, encode_all
from reticent.train.checkpoints import MarkWhole, close_folder, folder_for, open_folder, recall
from reticent.train.checkpoints import remember as note
from reticent.train.config import BATCH_SIZE, TuneConfig
from reticent.train.contextual.config import ContextualConfig
from reticent.train.contextual.prepare import ContextualTraining
from reticent.train.contextual.prepare import prepare as prepare_contextual
from reticent.train.hardened import hardened_corpus, hardened_trainer
from reticent.train.hardening import HardenConfig
from reticent.train.held_out import HeldOutBaseline, base_loss, before_and_after, held_out_loss, sentence_of
from reticent.train.loop import Bar, Diverged, TrainingEnded, TuneTrainer
from reticent.train.trackers import check_trackers

if TYPE_CHECKING:
    from reticent.train.private.train import PrivateTuning

__all__ = ["LOG", "TuneConfig", "tune"]

KIND = "tuned model"

LOG = "train_log.json"
"""Beside the weights: settings, counts and the losses of each epoch. No text."""

_PLAIN_ATTENTION = 2**19
"""Up to this many scores a head, plain attention trains faster on a CPU than the fused one (slow backward);
beyond, its memory tells."""


def tune(
    base: str,
    records: Sequence[Record],
    out: str | Path,
    config: TuneConfig | None = None,
    *,
    held_out: Sequence[Record] = (),
    callbacks: Sequence[TrainerCallback] = (),
    privacy: PrivacySpec | None = None,
    harden: HardenConfig | None = None,
    contextual: ContextualConfig | None = None,
    data: str = "",
) -> Path:
    """Fine-tune ``base`` on ``records`` and save the outcome as a folder that ``models.load`` reads.

    AdamW (or SGD) with a linear schedule unless told otherwise, the batch's gradient clipped at norm 1, a checkpoint
    after each epoch.
    Interrupted and called again with the same arguments, it goes on from the last whole checkpoint; finished, it
    returns at once.

    Args:
        base: folder, hub id or catalogue name of a whole model.
        records: what is trained on.
        out: the folder to make: safetensors (for adapters only theirs), tokenizer, ``reticent_tuning.json`` and
            ``train_log.json``.
        config: how; None for the defaults.
        held_out: a small sample whose loss is logged before training and after each epoch; never trained on. With
            ``privacy`` of units that are not trained on, chosen without a look at what is.
        callbacks: further ``TrainerCallback``s. They are not part of what makes two trainings the same.
        privacy: train with differential privacy (see ``train.private``). The promise lies as ``privacy.json`` beside
            the weights, and in ``train_log.json`` with what the self-check found. Held-out records are not protected.
        harden: memorize less, without a promise. ``dedup_users`` is not done here but by ``workflows.tune``, as it
            changes which records there are.
        contextual: learn without teaching what spans mark. The held-out loss stays that of the texts as they are.
        data: fingerprint of the data set that ``records`` are of; it stays on record beside ``out`` with what a private
            training spends should no model come of it.

    Raises:
        BadInput: the base or the method cannot be used, no record has anything to train on, the loss is no longer
            finite, the disk is full, ``out`` holds another training or another process works on it, or a setting would
            void the privacy guarantee.
        GuaranteeViolated: the self-check of a private training failed; nothing of it is kept.
    """
    with locked(Path(out)):
        return _tune(
            base, records, Path(out), config or TuneConfig(), held_out, callbacks, privacy, harden, contextual, data
        )


def _tune(
    base: str,
    records: Sequence[Record],
    out: Path,
    config: TuneConfig,
    held_out: Sequence[Record],
    callbacks: Sequence[TrainerCallback],
    privacy: PrivacySpec | None,
    harden: HardenConfig | None,
    contextual: ContextualConfig | None,
    data: str,
) -> Path:
    """``tune``, while no other process works in ``out``."""
    method = TUNINGS.get(config.method)
    spec = privacy if privacy is not None and privacy.is_private else None
    check_trackers(config.report_to)
    harden, contextual = harden or HardenConfig(), contextual or ContextualConfig()
    contextual.check(harden, spec)
    config = harden.settled(config, spec).settled(method.learning_rate, private=spec is not None)
    key = _key(fingerprint_weights(locate(base)), records, held_out, config, spec, harden, contextual)
    if _is_finished(out, key, resume=config.resume):
        console.print(f"{out} is finished already.", highlight=False)
        _tell(json.loads((out / LOG).read_text(encoding="utf-8")))
        return out
    loaded = _load_whole(base, config.device)
    settled, corpus, sample = _encode(loaded, records, held_out, config, harden, contextual)
    checkpoint = open_folder(out, key, resume=config.resume)
    if checkpoint is not None:
        console.print(f"going on from {checkpoint.name}", highlight=False)
    started = time.perf_counter()
    private = _private(spec, corpus, held_out, records, config, loaded, out)
    corpus = corpus if private is None else private.corpus
    arguments = arguments_of(config, out, loaded.device, harden.clip_batch, evaluate=bool(sample.encoded))
    make = (settled and settled.make_trainer) or hardened_trainer(harden)
    try:
        _settle_attention(loaded, corpus, config, private)
        with _quiet():
            before = _before(loaded, sample, arguments, config, out, private=private is not None)
        trainer, tuned = _trainer(loaded, method, corpus, sample, arguments, config, callbacks, private, make)
        check_rise(trainer, config)
    except BadInput:
        if checkpoint is None and (private is None or not private.has_begun(out)):
            close_folder(out)  # nothing was trained: a corrected call begins anew
        raise
    _check_space(trainer.model, tuned, out)
    try:
        with private.on_record(trainer, out, data, resumed=checkpoint is not None) if private else nullcontext():
            _run(trainer, checkpoint, out, before, private=private is not None)
        replaced = private.replaced(out, data) if private else None
        log = _log(trainer, corpus, config, time.perf_counter() - started)
        exact = {name: log[name] for name in ("records", "seconds_since_start_or_resume")}
        log = {"key": key, **log, **_counts(corpus)} if private is None else private.published(log)
        log |= {"harden": asdict(harden)} if harden.is_on else {}
        log |= {"held_out": before_and_after(trainer, before)} if before is not None else {}
        with _quiet(), replacing_folder(out, kind=KIND) as folder:
            _save(trainer.model, loaded, tuned, folder, out)
            if settled is not None:
                log["contextual"] = settled.finish(trainer.model, folder, pad=trainer.pad)
            if private is not None:
                log |= private.sign(trainer, folder)
                note(out, key, exact)
            (folder / LOG).write_text(json.dumps(log, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise _disk_error(out, error) from error
    if private is not None:
        begun.finished(out, plan=private.plan.fingerprint, replaced=replaced)
    close_folder(out)
    _tell(log)
    return out


def _tell(log: dict[str, Any]) -> None:
    """Say whether it helped, where that was measured."""
    if said := sentence_of(log):
        console.print(said, highlight=False, soft_wrap=True)


def _load_whole(base: str, device: str) -> LoadedModel:
    loaded = load(base, dtype="float32", device=device)
    if loaded.is_adapter:
        raise BadInput(base, "is an adapter, and only whole models are tuned", "Merge it into its base first.")
    return loaded


def _encode(
    loaded: LoadedModel,
    records: Sequence[Record],
    held_out: Sequence[Record],
    config: TuneConfig,
    harden: HardenConfig,
    contextual: ContextualConfig,
) -> tuple[ContextualTraining | None, Corpus, Corpus]:
    settled = None
    if contextual.is_on:
        settled = prepare_contextual(contextual, records, loaded.tokenizer, config.max_tokens)
    corpus = settled.corpus if settled else encode_all(records, loaded.tokenizer, config.max_tokens)
    corpus = hardened_corpus(corpus, harden)
    if not corpus.encoded:
        raise BadInput(
            f"{len(records)} records",
            f"none has a token to train on within its first {config.max_tokens}",
            "Check the fields that were read, or raise --max_tokens.",
        )
    sample = encode_all(held_out, loaded.tokenizer, config.max_tokens) if held_out else NOTHING
    _check_lengths(loaded.model, [*corpus.encoded, *sample.encoded], config)
    for count, what in ((corpus.truncated, "cut off"), (corpus.empty, "left out, nothing of them is predicted")):
        if count:
            console.print(f"{count} of {len(records)} records {what}", style="yellow", highlight=False)
    return settled, corpus, sample


def _check_lengths(model: Any, encoded: Sequence[EncodedRecord], config: TuneConfig) -> None:
    """Refuse texts that are longer than the model reads, with the virtual tokens that the method puts before them."""
    longest = max(len(one) for one in encoded)
    context = context_length(model) or longest
    params = TUNINGS.get(config.method).defaults | config.method_params
    asked = params.get("virtual_tokens")
    virtual = max(0, asked) if isinstance(asked, int) else 0  # what else it may be, the method refuses by name
    if longest + virtual > context:
        before = f" behind {virtual} virtual ones" if virtual else ""
        fix = f"Give --max_tokens {context - virtual} or less."
        raise BadInput(
            f"max_tokens={config.max_tokens}",
            f"the model reads at most {context} tokens and the longest record has {longest}{before}",
            fix if context > virtual else "Give fewer virtual_tokens.",
        )


def _private(
    spec: PrivacySpec | None,
    corpus: Corpus,
    held_out: Sequence[Record],
    records: Sequence[Record],
    config: TuneConfig,
    loaded: LoadedModel,
    out: Path,
) -> PrivateTuning | None:
    if spec is None:
        return None
    from reticent.train.private.train import (  # the accountant takes a second to load
        prepare,
        refuse_units_on_both_sides,
    )

    refuse_units_on_both_sides(spec, records, held_out)
    return prepare(spec, corpus, records, config, loaded.model, loaded.tokenizer, folder_for(out))


def _settle_attention(loaded: LoadedModel, corpus: Corpus, config: TuneConfig, private: PrivateTuning | None) -> None:
    longest = max(len(one) for one in corpus.encoded)
    rows = config.batch_size if private is None else private.rows(longest)
    if loaded.device == "cpu" and (rows or BATCH_SIZE) * longest**2 <= _PLAIN_ATTENTION:
        loaded.model.set_attn_implementation("eager")


def _before(
    loaded: LoadedModel, sample: Corpus, arguments: TrainingArguments, config: TuneConfig, out: Path, *, private: bool
) -> float | None:
    """The held-out loss of the base as it came, measured like that of the epochs; None where nothing is held out."""
    if not sample.encoded:
        return None
    size = arguments.per_device_eval_batch_size
    return base_loss(
        folder_for(out),
        lambda: held_out_loss(
            loaded.model,
            sample.encoded,
            size=min(size, BATCH_SIZE) if private else size,
            pad=loaded.tokenizer.pad_token_id or 0,
            bfloat16=_in_bfloat16(config, loaded.device),
        ),
    )


def _in_bfloat16(config: TuneConfig, device: str) -> bool:
    return config.dtype == "bfloat16" or (config.dtype == "auto" and has_bfloat16(device))


def _trainer(
    loaded: LoadedModel,
    method: Tuning,
    corpus: Corpus,
    sample: Corpus,
    arguments: TrainingArguments,
    config: TuneConfig,
    callbacks: Sequence[TrainerCallback],
    private: PrivateTuning | None,
    make: Callable[..., TuneTrainer],
) -> tuple[TuneTrainer, TuningInfo]:
    set_seed(config.seed)
    model = method(loaded.model, **config.method_params)
    tuned = TuningInfo(
        method=method.name,
        params=method.defaults | config.method_params,
        base=_lasting(loaded.source),
        base_fingerprint=loaded.fingerprint,
        storage=method.storage,
    )
    trainer = (make if private is None else private.trainer)(
        model=model,
        args=arguments,
        encoded=corpus.encoded,
        held_out=sample.encoded,
        pad=loaded.tokenizer.pad_token_id or 0,
        autocast=_in_bfloat16(config, loaded.device),
        callbacks=[MarkWhole(), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, tuned


def _lasting(source: str) -> str:
    """The source as it can be found again from elsewhere: names stay, folders become absolute."""
    named = is_hub_id(source) or catalog.resolve(source) != source
    return source if named else str(Path(source).expanduser().resolve())


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
        try:
            with _quiet(), full_disk_is_an_os_error():
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except TrainingEnded as stopped:
            console.print(f"training had ended {stopped}", highlight=False)
        except Diverged:
            if not private:
                close_folder(out)
            raise
        except GuaranteeViolated:
            close_folder(out)
            raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's remarks about its own defaults, and its bars about single files, from the person."""
    before, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(before)
        if bars:
            hf_logging.enable_progress_bar()


def _save(model: Any, loaded: LoadedModel, tuned: TuningInfo, folder: Path, out: Path) -> None:
    """Write the model into ``folder``, which becomes ``out``. Nothing in it names a place of this machine."""
    adapters.save(model, folder, tuned.storage)
    loaded.tokenizer.save_pretrained(folder)
    named = portable(tuned.base, out)
    remember(tuned.base, tuned.base_fingerprint)
    replace(tuned, base=named).write(folder)
    name_base(folder, tuned.base, named)


def _log(trainer: TuneTrainer, corpus: Corpus, config: TuneConfig, seconds: float) -> dict[str, Any]:
    return {
        "finished": now(),
        "config": asdict(config),
        "records": len(corpus.encoded),
        "trained_parameters": trained_parameters(trainer.model),
        "seconds_since_start_or_resume": round(seconds, 1),
        "history": trainer.state.log_history,
        "environment": environment(),
    }


def _counts(corpus: Corpus) -> dict[str, int]:
    """What else is known of the data; each figure is exact, so a private training does not tell."""
    return {
        "truncated": corpus.truncated,
        "left_out": corpus.empty,
        "tokens": corpus.tokens,
        "trained_tokens": corpus.trained_tokens,
    }


def _key(
    base_fingerprint: str,
    records: Sequence[Record],
    held_out: Sequence[Record],
    config: TuneConfig,
    spec: PrivacySpec | None,
    harden: HardenConfig,
    contextual: ContextualConfig,
) -> str:
    """SHA-256 (hex) of all that decides the outcome."""
    settings = replace(config, resume=True, report_to="none").on_record
    spans = [[(span.start, span.end) for span in record.spans] for record in records]
    parts: list[Any] = [base_fingerprint, fingerprint(records), fingerprint(held_out), settings]
    if spec is not None:
        # Users decide who is drawn, and the order of records which of them.
        parts += [asdict(spec), [(record.id, record.user) for record in records]]
        if spec.protect == "spans":
            parts.append(spans)
    if harden.is_on:
        parts.append({"harden": harden.changed})
    if contextual.is_on:
        kinds = [[span.kind for span in record.spans] for record in records]
        parts.append({"contextual": contextual.changed, "spans": spans, "kinds": kinds})
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _is_finished(out: Path, key: str, *, resume: bool) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / LOG).read_text(encoding="utf-8")).get("key") or recall(out)
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(str(out), "exists and was not made by a tuning", "Choose another folder (--out).") from error
    if found != key and resume:
        raise BadInput(
            str(out),
            "holds the outcome of another training",
            "Choose another folder (--out), or replace it (--resume false).",
        )
    if not resume:
        refuse_foreign_folder(out, KIND)  # before hours of work
    return bool(found == key and resume)


def _check_space(model: Any, tuned: TuningInfo, out: Path) -> None:
    """Refuse before hours of work rather than after: two checkpoints with AdamW's two moments, and the outcome."""
    trained = trained_parameters(model)
    all_of_it = sum(parameter.numel() for parameter in model.parameters())
    kept = trained if tuned.storage == "peft" else all_of_it
    needed = 4 * (2 * (kept + 2 * trained) + kept)
    free = shutil.disk_usage(folder_for(out)).free
    if needed > free:
        raise Unusable(
            str(out),
            f"the disk has {free / 2**30:.2f} GiB free, and checkpoints need {needed / 2**30:.2f}",
            "Choose another folder (--out).",
        )


def _disk_error(out: Path, error: OSError) -> Exception:
    if error.errno == errno.EFBIG:
        return Unusable(str(out), "a file may not grow so large here (File too large)", "Raise the limit (ulimit -f).")
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    free = shutil.disk_usage(out.parent).free / 2**30
    return Unusable(
        str(out), f"the disk is full ({free:.1f} GiB free)", "Free some space and run the same command again."
    )
