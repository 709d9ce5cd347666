# SPDX-License-Identifier: Apache-2.0
"""What a fine-tuning is told. No torch, so that command lines can show their help at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reticent.core import validate

DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How to fine-tune.

    Args:
        method: what is trained: full, head, head_tied, blocks, bitfit, adapter, lora, ia3, prefix, prompt.
        method_params: hyper-parameters of the method, for example {"r": 8}.
        epochs: how often each record is seen.
        learning_rate: peak of AdamW's linear schedule; left out, the method's own default.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: of AdamW, not on biases and normalisations.
        batch_size: records in an optimizer step.
        max_tokens: records are cut off behind this many tokens.
        seed: of the order of records, of new parameters and of dropout.
        dtype: what is computed in; weights stay float32. "auto" is bfloat16 where the machine has it.
        device: "auto" is the GPU if there is one.
        report_to: experiment trackers as in Hugging Face's TrainingArguments, for example "tensorboard".
        resume: go on from the last checkpoint of the same training; false starts from the beginning.
    """

    method: str = "full"
    method_params: dict[str, Any] = field(default_factory=dict)
    epochs: int = 3
    learning_rate: float | None = None
    warmup: float = 0.05
    weight_decay: float = 0.01
    batch_size: int = 8
    max_tokens: int = 512
    seed: int = 0
    dtype: str = "auto"
    device: str = "auto"
    report_to: str = "none"
    resume: bool = True

    def __post_init__(self) -> None:
        validate.positive(epochs=self.epochs, batch_size=self.batch_size, max_tokens=self.max_tokens)
        validate.non_negative(weight_decay=self.weight_decay, warmup=self.warmup, seed=self.seed)
        validate.in_range(-1e-12, 1 - 1e-12, warmup=self.warmup)
        validate.one_of(DTYPES, dtype=self.dtype)
        if self.learning_rate is not None:
            validate.positive(learning_rate=self.learning_rate)
