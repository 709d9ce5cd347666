# SPDX-License-Identifier: Apache-2.0
"""A trainer put together of a loaded model and its texts: the same in each process that trains one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from transformers import PrinterCallback, TrainingArguments, set_seed
from transformers.utils import logging as hf_logging

from reticent.core.errors import BadInput
from reticent.models.held_weights import refuse_trained
from reticent.models.load import LoadedModel, has_bfloat16
from reticent.models.quantised import compute_in
from reticent.models.tuned import TuningInfo
from reticent.train.arguments import arguments_of
from reticent.train.batches import Corpus
from reticent.train.checkpoints import MarkWhole
from reticent.train.config import BATCH_SIZE, TuneConfig
from reticent.train.fully_sharded import shared_out
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.apply import make_trainer
from reticent.train.objectives.material import TrainingMaterial
from reticent.train.ranks import ranks
from reticent.train.start import fresh, going_on, refuse_checkpointing
from reticent.train.task import Task, settle_attention

if TYPE_CHECKING:
    from reticent.train.private.train import PrivateTuning


def arguments_for(task: Task, loaded: LoadedModel, *, evaluate: bool) -> TrainingArguments:
    """``task`` as Hugging Face's Trainer takes it. Trackers are told by the leader alone.

    Args:
        loaded: the base, on its device.
        evaluate: something is held out.

    Raises:
        BadInput: several processes of one machine would share a GPU, or the loss of a batch is no sum over its rows.
    """
    here = ranks()
    if here.size > 1:
        _refuse_undivided(loaded, here.local)
    config = task.config if here.leads else replace(task.config, report_to="none")
    changed = {name: value for chosen in task.objectives for name, value in chosen.arguments().items()}
    return arguments_of(config, task.out, loaded.device, changed, evaluate=evaluate)


def _refuse_undivided(loaded: LoadedModel, local: int) -> None:
    if loaded.device.startswith("cuda") and local >= torch.cuda.device_count():
        raise BadInput(
            f"process {local} of this machine",
            f"has no GPU of its own: there are {torch.cuda.device_count()}",
            "Start as many processes on a machine as it has GPUs, or give --device cpu.",
        )
    if getattr(loaded.model.config, "output_router_logits", False):
        raise BadInput(
            "output_router_logits=True in several processes",
            "the balance of the experts is reckoned over a whole batch, and each process sees its rows alone",
            "Set it to false in config.json, or start one process.",
        )


def settle(task: Task, loaded: LoadedModel, corpus: Corpus, private: PrivateTuning | None) -> None:
    """Choose how the model computes, by the longest text."""
    longest = max(len(text) for text in corpus.encoded)
    rows = task.config.batch_size if private is None else private.rows(longest)
    settle_attention(loaded, rows or BATCH_SIZE, longest)


def maker(task: Task, material: TrainingMaterial, private: PrivateTuning | None) -> Callable[..., TuneTrainer]:
    """A maker of the trainer, called like ``TuneTrainer``."""
    if private is None:
        make = make_trainer(task.objectives, material)
        return shared_out(make) if task.is_shared_out else make
    if not task.is_shared_out:
        return private.trainer
    from reticent.train.private.shared_out import SharedPrivateTrainer  # the accountant takes a second to load

    return partial(private.trainer, kind=SharedPrivateTrainer)


def assembled(
    task: Task,
    loaded: LoadedModel,
    make: Callable[..., TuneTrainer],
    corpus: Corpus,
    sample: Corpus,
    arguments: TrainingArguments,
) -> tuple[TuneTrainer, TuningInfo]:
    """The trainer, and the provenance of what comes of it.

    Args:
        make: see `maker`.
        corpus: what is trained on.
        sample: what is held out.
    """
    config = task.config
    set_seed(config.seed)
    model, tuned = going_on(loaded, task.request) if task.goes_on else fresh(loaded, config)
    refuse_trained(model)
    autocast = in_bfloat16(config, loaded.device)
    compute_in(model, torch.bfloat16 if autocast else torch.float32)
    refuse_checkpointing(config, model, tuned.method)
    trainer = make(
        model=model,
        args=arguments,
        encoded=corpus.encoded,
        held_out=sample.encoded,
        pad=loaded.tokenizer.pad_token_id or 0,
        autocast=autocast,
        callbacks=task.callbacks,
    )
    trainer.seen.strategy = config.strategy
    trainer.remove_callback(PrinterCallback)
    if trainer.ranks.leads:
        trainer.add_callback(MarkWhole(trainer.seen))
    return trainer, tuned


def in_bfloat16(config: TuneConfig, device: str) -> bool:
    """True if it is computed in bfloat16."""
    return config.dtype == "bfloat16" or (config.dtype == "auto" and has_bfloat16(device))


@contextmanager
def quiet() -> Iterator[None]:
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
