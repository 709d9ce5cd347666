# SPDX-License-Identifier: Apache-2.0
"""The settings of a fine-tuning. No torch, so that command lines can show their help at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput

DTYPES = ("auto", "float32", "bfloat16")
BASE_DTYPES = ("auto", "float32", "bfloat16")
LOAD_IN = ("", "4bit", "8bit")
OPTIMIZERS = ("adamw", "sgd")
STRATEGIES = ("ddp", "fsdp")
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt")
"""Hugging Face's names, those that look at nothing but the step and need no settings of their own."""
SCHEDULE = "linear"
WARMUP = 0.05
WRAPS_INPUTS = ("prefix", "prompt")
"""Methods that change what the model reads, not its layers."""
EPOCHS, PRIVATE_EPOCHS = 3, 10
BATCH_SIZE = 8
LARGEST = 2**31 - 1
MOST_SHARDS = 64
"""The adapter of their average has that many times the rank."""
PRIVATE_LEARNING_RATE = {"full": 3e-4, "blocks": 3e-4, "ia3": 3e-2}
"""Where it is other than the method's own; `reticent.train.private.train` says why."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How to fine-tune.

    Args:
        method: what is trained: full, head, head_tied, blocks, bitfit, adapter, lora, ia3, prefix, prompt.
        method_params: hyper-parameters of the method, for example {"r": 8}.
        epochs: how often each record is seen; left out, 3, in private training 10.
        learning_rate: peak of the schedule; left out, the method's own default for AdamW.
        lr_scheduler_type: how the learning rate goes on from its peak, by Hugging Face's names: linear and cosine fall
            to zero at the last step, constant and constant_with_warmup stay, inverse_sqrt falls slowly.
        warmup: share of the steps in which the learning rate rises to its peak; not with constant, which begins there.
        warmup_steps: the same as a number of steps, in place of the share.
        weight_decay: not on biases and normalisations.
        optimizer: adamw, or sgd, which needs a learning_rate; with private training they are DP-Adam and DP-SGD.
        batch_size: records in an optimizer step, of all processes together; in private training how many units it has
            on average. Left out, 8, in private training an eighth of the units, 1,024 at most.
        shards: with lora: train so many adapters, each on the records of some users by hash, and keep their average. It
            costs no further steps, and a shard can be left out later (reticent unlearn --method shards); but each
            adapter learns from a part alone.
        max_tokens: records are cut off behind this many tokens.
        seed: of the order of records, of new parameters and of dropout.
        dtype: what is computed in; weights stay float32. "auto" is bfloat16 where the machine has it.
        base_dtype: how the frozen base of an adapter (lora, ia3, adapter, prompt) lies in memory. "auto" is as its
            files have it, so in half the memory where they are in 16 bits, with the same outcome to the last bit;
            "bfloat16" rounds a base that is not; "float32" never holds it so.
        load_in: the linear layers of the frozen base of lora, ia3 and prompt lie in "4bit" or "8bit" in training, where
            16 bits do not fit (bitsandbytes, extra quant). Audits read the adapter on the base as its files have it.
        gradient_checkpointing: keep what goes into each block alone, and compute the rest once more for the backward
            pass: activations take less memory, a step about a third more time, and the outcome is the same.
        strategy: of several processes: with "ddp" each holds the whole model; with "fsdp" each holds its part of the
            weights, gradients and moments, and a layer is whole only while it runs. The outcome is the same.
        device: "auto" is the GPU if there is one.
        report_to: experiment trackers as in Hugging Face's TrainingArguments, for example "tensorboard".
        resume: go on from the last checkpoint of the same training; false starts from the beginning.

    Examples:
        >>> config = TuneConfig(method="lora", method_params={"r": 8}, epochs=2)
        >>> config.batch_size, config.settled(1e-4).batch_size
        (None, 8)
        >>> TuneConfig(epochs=0)
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: epochs=0: must be greater than 0. Give a positive number.
    """

    method: str = "full"
    method_params: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    learning_rate: float | None = None
    lr_scheduler_type: str = SCHEDULE
    warmup: float = WARMUP
    warmup_steps: int | None = None
    weight_decay: float = 0.01
    optimizer: str = "adamw"
    batch_size: int | None = None
    shards: int | None = None
    max_tokens: int = 512
    seed: int = 0
    dtype: str = "auto"
    base_dtype: str = "auto"
    load_in: str = ""
    gradient_checkpointing: bool = False
    strategy: str = "ddp"
    device: str = "auto"
    report_to: str = "none"
    resume: bool = True

    def __post_init__(self) -> None:
        validate.positive(max_tokens=self.max_tokens)
        validate.non_negative(weight_decay=self.weight_decay, warmup=self.warmup)
        validate.seed(seed=self.seed)
        validate.device(device=self.device)
        validate.at_most(LARGEST, max_tokens=self.max_tokens, epochs=self.epochs or 1, batch_size=self.batch_size or 1)
        validate.in_range(-1e-12, 1 - 1e-12, warmup=self.warmup)
        validate.one_of(DTYPES, dtype=self.dtype)
        validate.one_of(BASE_DTYPES, base_dtype=self.base_dtype)
        validate.one_of(OPTIMIZERS, optimizer=self.optimizer)
        validate.one_of(STRATEGIES, strategy=self.strategy)
        self._check_schedule()
        self._check_shards()
        self._check_load_in()
        for name in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, name) is not None:
                validate.positive(**{name: getattr(self, name)})
        if self.optimizer == "sgd" and self.learning_rate is None:
            raise BadInput(
                'optimizer="sgd"',
                "has no learning rate that suits most models: its steps are as long as the gradient",
                "Give --learning_rate (0.1 is a start).",
            )

    def _check_schedule(self) -> None:
        validate.one_of(SCHEDULES, lr_scheduler_type=self.lr_scheduler_type)
        if self.warmup_steps is not None:
            validate.non_negative(warmup_steps=self.warmup_steps)
            validate.at_most(LARGEST, warmup_steps=self.warmup_steps)
            if self.warmup != WARMUP:
                raise BadInput(
                    f"warmup={self.warmup!r} with warmup_steps={self.warmup_steps!r}",
                    "both say how long the learning rate rises",
                    "Give one of them.",
                )
        if self.lr_scheduler_type == "constant" and (self.warmup_steps or self.warmup not in (0, WARMUP)):
            given = f"warmup={self.warmup!r}" if self.warmup_steps is None else f"warmup_steps={self.warmup_steps!r}"
            raise BadInput(
                f"{given} with lr_scheduler_type='constant'",
                "a constant learning rate does not rise",
                "Give --lr_scheduler_type constant_with_warmup, or leave it out.",
            )

    def _check_shards(self) -> None:
        if self.shards is None:
            return
        given = f"shards={self.shards!r}"
        if not 2 <= self.shards <= MOST_SHARDS:
            raise BadInput(given, f"must be a whole number from 2 to {MOST_SHARDS}", "Give 8, or leave it out.")
        if self.method != "lora":
            raise BadInput(
                f"{given} with method={self.method!r}",
                "the average of several trainings is kept exactly as a LoRA adapter, and as nothing else",
                "Give --method lora, or leave --shards out.",
            )
        if self.strategy == "fsdp":
            raise BadInput(
                f"{given} with strategy='fsdp'",
                "adapters are averaged in one process, which would have to hold the whole base",
                "Leave --shards out, or give --strategy ddp.",
            )

    def _check_load_in(self) -> None:
        validate.one_of(LOAD_IN, load_in=self.load_in)
        reasons = {
            "base_dtype": (self.base_dtype != "auto", "both say how the base lies in memory"),
            "shards": (
                self.shards is not None,
                "the average of several adapters is measured on the base that they were trained on",
            ),
            "strategy": (self.strategy == "fsdp", "matrices in few bits are no rows that processes could share out"),
        }
        other = next((name for name, (given, _) in reasons.items() if given), None)
        if self.load_in and other is not None:
            raise BadInput(
                f"load_in={self.load_in!r} with {other}={getattr(self, other)!r}",
                reasons[other][1],
                f"Leave {other} out.",
            )

    @property
    def rise(self) -> float:
        """How long the learning rate rises, as ``TrainingArguments.warmup_steps`` has it: a share of the steps below 1,
        else how many."""
        return self.warmup if self.warmup_steps is None else self.warmup_steps

    @property
    def on_record(self) -> dict[str, Any]:
        """The settings that a folder keeps, to know the same training again. Those that earlier versions have not are
        left out where they are at their defaults; so is how processes share the work, as the outcome is the same."""
        given = asdict(replace(self, strategy="ddp"))
        return {name: given[name] for name in given if name not in _SINCE or given[name] != _SINCE[name]}

    def settled(self, method_learning_rate: float, *, private: bool = False) -> TuneConfig:
        """With defaults filled in, but for the batch of a private training, which depends on the data."""
        usual = PRIVATE_LEARNING_RATE.get(self.method, method_learning_rate) if private else method_learning_rate
        return replace(
            self,
            epochs=self.epochs or (PRIVATE_EPOCHS if private else EPOCHS),
            learning_rate=self.learning_rate or usual,
            batch_size=self.batch_size or (None if private else BATCH_SIZE),
        )


def check_batch(batch_size: int | None, processes: int) -> None:
    """Refuse a batch that the processes of a training cannot share evenly: it is the batch of all of them together.

    Args:
        batch_size: records in an optimizer step; None for the usual number.
        processes: how many train one model.

    Raises:
        BadInput: it cannot be divided.

    >>> check_batch(8, 2)
    >>> check_batch(9, 2)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    reticent.core.errors.BadInput: batch_size=9: is the batch of all 2 processes together ... Give --batch_size 10.
    """
    given = batch_size or BATCH_SIZE
    if given % processes:
        raise BadInput(
            f"batch_size={given}",
            f"is the batch of all {processes} processes together and cannot be divided by them",
            f"Give --batch_size {-(-given // processes) * processes}.",
        )


def check_strategy(config: TuneConfig, processes: int, *, callbacks: bool = False) -> None:
    """Refuse to share a model out where there is nobody to share it with, or where its method cannot be shared out.

    Args:
        config: of the training.
        processes: how many train one model.
        callbacks: one process has some that may look at the model.

    Raises:
        BadInput: it asks for ``fsdp`` and is such a training.

    >>> check_strategy(TuneConfig(strategy="fsdp"), 2)
    >>> check_strategy(TuneConfig(strategy="fsdp"), 1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    reticent.core.errors.BadInput: strategy='fsdp' in one process: there is no other to hold a part of the model. ...
    """
    if config.strategy != "fsdp":
        return
    if processes == 1:
        raise BadInput(
            "strategy='fsdp' in one process",
            "there is no other to hold a part of the model",
            "Start several (torchrun --nproc_per_node 2 -m reticent tune ...), or leave --strategy out.",
        )
    if config.method in WRAPS_INPUTS:
        raise BadInput(
            f"strategy='fsdp' with method={config.method!r}",
            "puts virtual tokens before what the model reads, outside of the layers that are made whole while they run",
            "Give --strategy ddp, or --method lora.",
        )
    if callbacks:
        raise BadInput(
            "callbacks with strategy='fsdp'",
            "may look at the model in one process, and each holds a part of it alone",
            "Leave them out, or give --strategy ddp.",
        )


_SINCE = {
    "lr_scheduler_type": SCHEDULE,
    "warmup_steps": None,
    "shards": None,
    "base_dtype": "auto",
    "load_in": "",
    "gradient_checkpointing": False,
    "strategy": "ddp",
}
"""Settings that folders of earlier versions have not, with what they mean there."""
