# SPDX-License-Identifier: Apache-2.0
"""Models, wrappers and adapters that are refused: a unit's contribution would not depend on that unit alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from reticent.privacy.training_setup import TrainingSetup, Violation


def _distribution(training: TrainingSetup) -> Iterator[Violation]:
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


def _batch_statistics(training: TrainingSetup) -> Iterator[Violation]:
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


def _experts(training: TrainingSetup) -> Iterator[Violation]:
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


def _rotary(training: TrainingSetup) -> Iterator[Violation]:
    longest = training.trained.longest
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
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if isinstance(rope, Mapping):
        nested = [value for value in rope.values() if isinstance(value, Mapping)]
        yield from nested or [rope]


def _trained_dtypes(training: TrainingSetup) -> Iterator[Violation]:
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


def _quantised_base(training: TrainingSetup) -> Iterator[Violation]:
    for config in _configs(training.model):
        quantisation = getattr(config, "quantization_config", None)
        settings: dict[str, Any] = (
            quantisation.to_dict()
            if quantisation is not None and hasattr(quantisation, "to_dict")
            else quantisation or {}
        )
        if not settings or settings.get("load_in_4bit") or settings.get("dequantize"):
            continue
        yield Violation(
            f"quantization_config {settings.get('quant_method', '')}",
            "its kernels may scale or split activations by what else is in the batch (LLM.int8 does), so a record's "
            "gradient would depend on the others",
            "Quantise the frozen weights only (bitsandbytes, load_in_4bit=True), or not at all.",
        )


_FITTED_ON_DATA = ("eva", "corda", "lora_ga")


def _adapters(training: TrainingSetup) -> Iterator[Violation]:
    for name, config in (getattr(training.model, "peft_config", None) or {}).items():
        start = getattr(config, "init_lora_weights", None)
        if start in _FITTED_ON_DATA:
            yield Violation(
                f"init_lora_weights={start!r} of adapter {name!r}",
                "the adapter's first weights are computed from data, without noise",
                "Set init_lora_weights=True.",
            )


def _configs(model: Any) -> Iterator[Any]:
    """The model's configuration, and that of its text part where it has several."""
    config = getattr(model, "config", None)
    if config is not None:
        yield config
        text = getattr(config, "text_config", None)
        if text is not None and text is not config:
            yield text


MODEL_RULES: tuple[Callable[[TrainingSetup], Iterator[Violation]], ...] = (
    _distribution,
    _batch_statistics,
    _experts,
    _rotary,
    _trained_dtypes,
    _quantised_base,
    _adapters,
)
