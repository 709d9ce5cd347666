# SPDX-License-Identifier: Apache-2.0
"""Fields of the training arguments that void a privacy guarantee, one entry each: which values, why, and the fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class RefusedSetting(NamedTuple):
    """A field of the training arguments and the values that it must not have."""

    name: str
    is_bad: Callable[[Any], bool]
    why: str
    fix: str


def _given(value: Any) -> bool:
    return bool(value)


def _other_than(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: value is not None and value not in allowed


SETTINGS = (
    RefusedSetting(
        "packing",
        _given,
        "several records share a row, so a record's gradient cannot be told from its neighbours'",
        "Set packing=False.",
    ),
    RefusedSetting(
        "padding_free",
        _given,
        "the rows of a batch are joined into one, so a record's gradient cannot be told from its neighbours'",
        "Set padding_free=False.",
    ),
    RefusedSetting(
        "train_sampling_strategy",
        _other_than("random"),
        "batches would follow the lengths or the order of the data; ε is computed for units drawn independently",
        'Set train_sampling_strategy="random"; the plan\'s sampler draws.',
    ),
    RefusedSetting(
        "group_by_length",  # transformers 4
        _given,
        "batches would follow the lengths of the data; ε is computed for units drawn independently",
        "Set group_by_length=False; the plan's sampler draws.",
    ),
    RefusedSetting(
        "dataloader_drop_last",
        _given,
        "units would be left out by their place, and ε is computed for units drawn independently",
        "Set dataloader_drop_last=False.",
    ),
    RefusedSetting(
        "ignore_data_skip",
        _given,
        "a resumed training would see the first batches again under the noise of later steps: ε would count too few",
        "Set ignore_data_skip=False.",
    ),
    RefusedSetting(
        "gradient_accumulation_steps",
        _other_than(1),
        "one batch of the plan is one optimizer step; summing several changes the rate and the noise",
        "Set gradient_accumulation_steps=1 and give the whole batch as the batch size: it is cut into micro-batches.",
    ),
    RefusedSetting(
        "max_grad_norm",
        lambda value: value is not None and value > 0,
        "it clips the noised sum, not each unit's gradient: it protects nobody, and the noise alone would set it off",
        "Set max_grad_norm=0 (its default is 1). What bounds each unit is clip_norm.",
    ),
    RefusedSetting(
        "auto_find_batch_size",
        _given,
        "after an out-of-memory error the training starts again at another rate, and the steps already made would "
        "not be counted",
        "Set auto_find_batch_size=False. Memory depends on micro-batches only, which do not change the guarantee.",
    ),
    RefusedSetting(
        "fp16",
        _given,
        "the loss scale changes with the data, and sums of clipped gradients can overflow",
        "Set fp16=False, and bf16=True or none.",
    ),
    RefusedSetting(
        "torch_compile",
        _given,
        "a compiled step may fuse or skip the layers at which each unit's gradient is measured",
        "Set torch_compile=False.",
    ),
    RefusedSetting(
        "use_liger_kernel",
        _given,
        "its fused loss computes gradients that bypass the rules which clip them",
        "Set use_liger_kernel=False.",
    ),
    RefusedSetting(
        "neftune_noise_alpha",
        _given,
        "its noise scales with the padded length of the batch, so a long record changes the gradients of others",
        "Leave neftune_noise_alpha out.",
    ),
    RefusedSetting(
        "label_smoothing_factor",
        _given,
        "the loss whose gradients are clipped is the plain cross-entropy, so smoothing would silently be left out",
        "Set label_smoothing_factor=0.",
    ),
    RefusedSetting(
        "loss_type",
        _other_than("nll"),
        "the loss whose gradients are clipped is the plain cross-entropy, so this one would silently be left out",
        'Set loss_type="nll".',
    ),
    RefusedSetting(
        "deepspeed",
        _given,
        "it sums the gradients of records and processes before they can be clipped or noised",
        "Leave deepspeed out; for several GPUs use torchrun.",
    ),
    RefusedSetting(
        "fsdp",
        _given,
        "it shards gradients and sums them before they can be clipped or noised",
        "Leave fsdp out; for several GPUs use torchrun.",
    ),
    RefusedSetting(
        "parallelism_config",
        _given,
        "sharded parameters have only a part of each unit's norm in each process",
        "Leave parallelism_config out; for several GPUs use torchrun.",
    ),
    RefusedSetting(
        "n_gpu",
        lambda value: value is not None and value > 1,
        "one process would copy the model to several GPUs (DataParallel) and sum their gradients before clipping",
        "Start one process a GPU with torchrun, or show one GPU (CUDA_VISIBLE_DEVICES=0).",
    ),
    RefusedSetting(
        "include_num_input_tokens_seen",
        _other_than("no", False),
        "exact counts of the private tokens drawn would be logged; no noise covers them",
        'Set include_num_input_tokens_seen="no".',
    ),
    RefusedSetting(
        "debug",
        lambda value: "underflow_overflow" in str(value),
        "it prints the largest and smallest activations of the private records, which no noise covers",
        "Leave debug out, or look for overflows on public data.",
    ),
    RefusedSetting(
        "optim",
        lambda value: value is not None and ("layerwise" in value or "lomo" in value),
        "it updates weights inside the backward pass, before anything is clipped or noised",
        'Set optim="adamw_torch" or "sgd".',
    ),
)
"""Rules on one field each. Fields that the arguments lack are not looked at."""
