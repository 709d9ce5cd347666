# SPDX-License-Identifier: Apache-2.0
"""Settings under which a privacy guarantee would not hold, or would be other than it seems. Each is refused by name.

Tables of rules: ``SETTINGS`` (in `reticent.privacy.refused_settings`) look at one field of the training arguments,
``TASK_RULES`` (in `reticent.privacy.refused_tasks`) at what is trained and by what, ``RULES`` at anything and hold
these too. A new rule is one entry. All violations are found and raised together.

The guarantee needs that one unit's clipped gradient depends on that unit alone (so nothing may mix the records of a
batch), that batches are those of the plan's sampler, that nothing but the noised sum leaves the training, and that the
key of the noise stays here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import EarlyStoppingCallback
from transformers.data.data_collator import DataCollatorWithFlattening

from reticent.core.errors import BadInput
from reticent.privacy.refused_settings import SETTINGS, Violation
from reticent.privacy.refused_tasks import TASK_RULES

Rows = Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is about to be trained privately.

    Args:
        args: ``transformers.TrainingArguments``, or what derives from it (TRL's ``SFTConfig``).
        model: as the trainer was given it, not wrapped.
        unit: ``record`` or ``user``: what the guarantee protects.
        rows: token ids of each record, as they are trained on.
        evaluation_rows: the same of the evaluation set.
        evaluation: what the evaluation set is, where the training is to be steered by its loss (best checkpoint, early
            stopping). ``held_out``: units that are not trained on; the guarantee does not cover them, and the choice
            may tell of them. ``public``: nothing to protect. None: nothing is steered by it.
        train_dataset: what the trainer draws from.
        callbacks: of the trainer.
        collator: makes batches.
        compute_loss_func: given to the trainer.
        trainer: that trains; None where there is none yet.
    """

    args: Any
    model: Any
    unit: str = "record"
    rows: Rows = ()
    evaluation_rows: Rows = ()
    evaluation: Literal["held_out", "public"] | None = None
    train_dataset: Any = None
    callbacks: Sequence[Any] = ()
    collator: Any = None
    compute_loss_func: Any = None
    trainer: Any = None


def refuse(training: Training) -> None:
    """Say all that stands against the guarantee.

    Raises:
        BadInput: at least one rule is violated; ``given``, ``why`` and ``fix`` have one line for each.
    """
    found = violations(training)
    if len(found) == 1:
        raise BadInput(*found[0])
    if found:
        reasons = "\n".join(f"- {one.given}: {one.why}. {one.fix}" for one in found)
        raise BadInput(
            ", ".join(one.given for one in found),
            f"the privacy guarantee would not hold as stated, for {len(found)} reasons",
            f"All of them are to be mended:\n{reasons}",
        )


def violations(training: Training) -> list[Violation]:
    """All violations, in the order of the tables."""
    found = []
    for setting in SETTINGS:
        value = getattr(training.args, setting.name, None)
        value = getattr(value, "value", value)  # enumerations
        if setting.is_bad(value):
            found.append(Violation(f"{setting.name}={value!r}", setting.why, setting.fix))
    for rule in RULES:
        found += rule(training)
    return found


def copies(rows: Rows) -> list[int]:
    """Positions of rows that repeat an earlier one, token for token."""
    seen: set[tuple[int, ...]] = set()
    found = []
    for place, row in enumerate(rows):
        key = tuple(row)
        if key in seen:
            found.append(place)
        seen.add(key)
    return found


_FOLDER_SENDERS = {"COMET_LOG_ASSETS": "comet_ml", "HF_DAGSHUB_LOG_ARTIFACTS": "dagshub"}
"""Variables by which a tracker is told to upload the whole folder of the training, and the tracker."""


def _uploads(training: Training) -> Iterator[Violation]:
    trackers = getattr(training.args, "report_to", None) or ()
    trackers = (trackers,) if isinstance(trackers, str) else trackers
    for variable, tracker in _FOLDER_SENDERS.items():
        value = os.environ.get(variable, "")
        if tracker in trackers and value.lower() in ("1", "true", "yes", "on", "y", "t"):
            yield Violation(
                f"{variable}={value}",
                "the folder of the training is uploaded, where the key of the noise lies: who has it can subtract it",
                f"Unset {variable}.",
            )


def _distribution(training: Training) -> Iterator[Violation]:
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    if isinstance(training.model, wrappers) or "FullyShardedDataParallel" in type(training.model).__name__:
        yield Violation(
            f"a model in {type(training.model).__name__}",
            "it sums gradients over processes before they can be clipped or noised",
            "Give the model itself; the trainer sums clipped gradients over processes.",
        )
    accelerator = getattr(training.args, "accelerator_config", None)
    for name in ("split_batches", "dispatch_batches"):
        if getattr(accelerator, name, None):
            yield Violation(
                f"accelerator_config.{name}=True",
                "the trainer shares each batch of the plan out itself; done twice, units would get lost",
                f"Leave {name} out.",
            )


def _batch_statistics(training: Training) -> Iterator[Violation]:
    for name, module in training.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            yield Violation(
                f"{type(module).__name__} at {name}",
                "it normalises each record by the others of its batch, and keeps means of them without noise",
                "Take a model with LayerNorm, RMSNorm or GroupNorm.",
            )
        elif isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats:
            yield Violation(
                f"{type(module).__name__} at {name}",
                "it keeps running means of the private data without noise, and they are saved with the model",
                "Build it with track_running_stats=False.",
            )


def _experts(training: Training) -> Iterator[Violation]:
    for config in _configs(training.model):
        asked = getattr(training.args, "router_aux_loss_coef", None)
        coefficient = getattr(config, "router_aux_loss_coef", None) if asked is None else asked
        if asked or (getattr(config, "output_router_logits", False) and coefficient != 0):
            yield Violation(
                f"output_router_logits with router_aux_loss_coef={coefficient}",
                "the balance loss is one number for the whole batch, so a unit's gradient depends on the others",
                "Set model.config.output_router_logits=False and router_aux_loss_coef=0.",
            )
        if getattr(config, "expert_capacity", None):
            yield Violation(
                f"expert_capacity={config.expert_capacity}",
                "an expert that is full drops tokens, so which tokens of a record count depends on the others",
                "Take a model whose experts have no capacity limit.",
            )


def _rotary(training: Training) -> Iterator[Violation]:
    longest = max(map(len, training.rows), default=None)
    for config in _configs(training.model):
        for rope in _rope_parameters(config):
            kind = rope.get("rope_type", rope.get("type", "default"))
            if kind != "longrope" and "dynamic" not in str(kind):
                continue
            limit = int(rope.get("original_max_position_embeddings") or config.max_position_embeddings)
            if longest is None or longest > limit:
                yield Violation(
                    f"rope_type={kind!r} with records of {longest or 'unknown numbers of'} tokens",
                    f"beyond {limit} tokens the longest row of a batch changes the positions of all others",
                    f"Cut records at {limit} tokens.",
                )


def _rope_parameters(config: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of rotary positions: one, or one for each type of layer."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if isinstance(found, Mapping):
        nested = [one for one in found.values() if isinstance(one, Mapping)]
        yield from nested or [found]


def _trained_dtypes(training: Training) -> Iterator[Violation]:
    names: dict[str, list[str]] = {}
    for name, parameter in training.model.named_parameters():
        quantised = type(parameter).__name__ in ("Params4bit", "Int8Params")
        if parameter.requires_grad and (quantised or parameter.dtype != torch.float32):
            kind = type(parameter).__name__ if quantised else str(parameter.dtype).removeprefix("torch.")
            names.setdefault(kind, []).append(name)
    for kind, those in names.items():
        yield Violation(
            f"{len(those)} trained parameters in {kind} ({those[0]}{' …' if len(those) > 1 else ''})",
            "steps of private training are smaller than its rounding: ε would be spent on weights that hardly move, "
            "and what is applied could not be checked",
            "Load the model with dtype=torch.float32 (bf16=True still computes in bfloat16), or train an adapter in "
            "float32 on top.",
        )


def _quantised_base(training: Training) -> Iterator[Violation]:
    for config in _configs(training.model):
        found = getattr(config, "quantization_config", None)
        settings: dict[str, Any] = found.to_dict() if found is not None and hasattr(found, "to_dict") else found or {}
        if not settings or settings.get("load_in_4bit") or settings.get("dequantize"):
            continue
        yield Violation(
            f"quantization_config {settings.get('quant_method', '')}",
            "its kernels may scale or split activations by what else is in the batch (LLM.int8 does), so a record's "
            "gradient would depend on the others",
            "Quantise the frozen weights only (bitsandbytes, load_in_4bit=True), or not at all.",
        )


_FITTED_ON_DATA = ("eva", "corda", "lora_ga")


def _adapters(training: Training) -> Iterator[Violation]:
    for name, config in (getattr(training.model, "peft_config", None) or {}).items():
        start = getattr(config, "init_lora_weights", None)
        if start in _FITTED_ON_DATA:
            yield Violation(
                f"init_lora_weights={start!r} of adapter {name!r}",
                "the adapter's first weights are computed from data, without noise",
                "Set init_lora_weights=True.",
            )


def _steering(training: Training) -> Iterator[Violation]:
    """What is chosen by an evaluation loss is published through the choice."""
    if training.evaluation is not None:
        return
    args = training.args
    strategy = getattr(getattr(args, "save_strategy", None), "value", getattr(args, "save_strategy", None))
    schedule = getattr(getattr(args, "lr_scheduler_type", None), "value", getattr(args, "lr_scheduler_type", None))
    steered = {
        "EarlyStoppingCallback": any(_is(one, EarlyStoppingCallback) for one in training.callbacks),
        "load_best_model_at_end=True": bool(getattr(args, "load_best_model_at_end", False)),
        'save_strategy="best"': strategy == "best",
        f"lr_scheduler_type={schedule!r}": schedule in ("reduce_lr_on_plateau", "greedy"),
    }
    for given in (name for name, used in steered.items() if used):
        yield Violation(
            given,
            "the training is steered by a loss, which tells of the records it was measured on and is not covered by ε",
            'Say what the evaluation set is: evaluation="held_out" (units that are not trained on; they are then not '
            'protected) or "public". Or leave this out.',
        )


def _evaluated_on_training_data(training: Training) -> Iterator[Violation]:
    trained = {tuple(row) for row in training.rows}
    shared = sum(tuple(row) in trained for row in training.evaluation_rows)
    if shared:
        yield Violation(
            f"{shared} of {len(training.evaluation_rows)} evaluation records",
            "are trained on too, so their exact loss, which no noise covers, would be logged",
            "Evaluate on other records.",
        )


def _copied_records(training: Training) -> Iterator[Violation]:
    if training.unit != "record":
        return
    again = len(copies(training.rows))
    if again:
        yield Violation(
            f"{again} of {len(training.rows)} records",
            "repeat an earlier one token for token: what occurs m times is protected at m times ε only",
            'Drop the copies, or protect users (unit="user").',
        )


def _loss(training: Training) -> Iterator[Violation]:
    if training.compute_loss_func is not None:
        yield Violation(
            "compute_loss_func",
            "a loss of your own may mix the records of a batch, and its gradients would bypass the clipping",
            "Leave it out: the loss is each record's mean cross-entropy.",
        )
    if isinstance(training.collator, DataCollatorWithFlattening):
        yield Violation(
            type(training.collator).__name__,
            "the rows of a batch are joined into one, so a record's gradient cannot be told from its neighbours'",
            "Take a collator that pads.",
        )


def _streams(training: Training) -> Iterator[Violation]:
    if training.train_dataset is not None and not hasattr(training.train_dataset, "__len__"):
        yield Violation(
            f"train_dataset {type(training.train_dataset).__name__}",
            "a stream has no known number of units, so none can be drawn with a known probability",
            "Give a dataset that has a length.",
        )


def _is(callback: Any, kind: type) -> bool:
    return isinstance(callback, kind) or (isinstance(callback, type) and issubclass(callback, kind))


def _configs(model: Any) -> Iterator[Any]:
    """The model's configuration, and that of its text part where it has several."""
    config = getattr(model, "config", None)
    if config is not None:
        yield config
        text = getattr(config, "text_config", None)
        if text is not None and text is not config:
            yield text


RULES: tuple[Callable[[Training], Iterator[Violation]], ...] = (
    _streams,
    _loss,
    _uploads,
    _distribution,
    _batch_statistics,
    _experts,
    _rotary,
    _trained_dtypes,
    _quantised_base,
    _adapters,
    _steering,
    _evaluated_on_training_data,
    _copied_records,
    *TASK_RULES,
)
"""Rules that look at more than one field."""
