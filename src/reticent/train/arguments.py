# SPDX-License-Identifier: Apache-2.0
"""A `TuneConfig` as Hugging Face's Trainer takes it, and how many steps come of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from reticent.core.errors import BadInput
from reticent.train.checkpoints import folder_for
from reticent.train.config import BATCH_SIZE, EPOCHS, TuneConfig
from reticent.train.hardening import CLIP_BATCH


def arguments_of(
    config: TuneConfig, out: Path, device: str, changed: Mapping[str, Any], *, evaluate: bool
) -> TrainingArguments:
    """``config``, settled, as Hugging Face's Trainer takes it.

    Args:
        out: folder of the model; the Trainer works in that of its checkpoints.
        changed: by objectives: fields of ``TrainingArguments`` with the values that they get.
        evaluate: measure the held-out loss after each epoch.
    """
    fields: dict[str, Any] = {
        "output_dir": str(folder_for(out)),
        "num_train_epochs": config.epochs or EPOCHS,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler_type,
        "warmup_steps": config.rise,
        "weight_decay": config.weight_decay,
        "max_grad_norm": CLIP_BATCH,
        "per_device_train_batch_size": config.batch_size or BATCH_SIZE,
        "per_device_eval_batch_size": config.batch_size or BATCH_SIZE,
        "optim": "sgd" if config.optimizer == "sgd" else "adamw_torch_fused",
        "seed": config.seed,
        "use_cpu": device == "cpu",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "eval_strategy": "epoch" if evaluate else "no",
        "logging_strategy": "epoch",
        "logging_nan_inf_filter": False,
        "report_to": config.report_to,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": device != "cpu",
        "average_tokens_across_devices": False,  # each process counts the tokens of all of them
    }
    if config.gradient_checkpointing:
        fields |= {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    arguments = TrainingArguments(**fields | dict(changed))
    # Left to itself, one process that sees several GPUs multiplies the batch by their number.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def steps_of(trainer: Any) -> int:
    """How many optimizer steps the whole training has."""
    epoch_steps = math.ceil(len(trainer.train_dataset) / trainer.args.train_batch_size)
    return trainer.args.max_steps if trainer.args.max_steps > 0 else epoch_steps * int(trainer.args.num_train_epochs)


def check_rise(trainer: Any, config: TuneConfig) -> None:
    """Refuse a learning rate that would never reach its peak.

    Raises:
        BadInput: it would not.
    """
    steps = steps_of(trainer)
    if config.warmup_steps is not None and config.warmup_steps >= steps:
        raise BadInput(
            f"warmup_steps={config.warmup_steps}",
            f"the training has {steps} steps, so the learning rate would not reach its peak before the end",
            "Give fewer, or a share of the steps (--warmup 0.05).",
        )
