# SPDX-License-Identifier: Apache-2.0
"""transformers.Trainer with our order of records, our mixed precision and a held-out loss that weighs tokens evenly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reticent.core.progress import console
from reticent.models.encode import EncodedRecord
from reticent.train.batches import LengthGrouped, collate
from reticent.train.diverged import Diverged
from reticent.train.held_out import BASE_PERPLEXITY, held_out_loss, perplexity


class TrainingEnded(Exception):
    """Raised by a callback before the first step, when the checkpoint that is gone on with is where training ended."""


class TuneTrainer(Trainer):  # type: ignore[misc]
    """One fine-tuning.

    Args:
        encoded: what is trained on.
        held_out: what the held-out loss is measured on after each epoch; may be empty.
        pad: token id that fills up rows.
        autocast: whether to compute in bfloat16. Weights, their gradients and AdamW stay in float32.
    """

    control: Any

    def __init__(
        self,
        *,
        model: Any,
        args: TrainingArguments,
        encoded: Sequence[EncodedRecord],
        held_out: Sequence[EncodedRecord],
        pad: int,
        autocast: bool,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=list(encoded),
            eval_dataset=list(held_out) or None,
            data_collator=partial(collate, pad=pad),
            callbacks=list(callbacks),
        )
        self.pad, self.autocast = pad, autocast

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGrouped:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return LengthGrouped([len(row) for row in rows], self.args.train_batch_size, self.args.seed)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Mean loss over the batch's trained tokens.

        Autocast is entered here rather than by ``args.bf16``, under which Accelerate would copy the logits
        ``[B, T, V]`` into float32 once more.
        """
        with self.computing():
            result = self.batch_loss(model, inputs)
            if result is None:
                result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = result[0] if isinstance(result, tuple) else result
        if not math.isfinite(loss.item()):
            raise Diverged(
                f"learning_rate={self.args.learning_rate:g}",
                f"the training diverged: the loss is {loss.item()} at step {self.state.global_step + 1}",
                "Choose a lower learning rate.",
            )
        return result

    def batch_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor | None:
        """The loss of a batch of training where it is another than the model's own; None where it is that. The
        held-out loss always is."""
        return None

    def outcome(self) -> Any:
        """The model that is saved. Asked for once, when training has ended."""
        return self.model

    def computing(self) -> AbstractContextManager[None]:
        """Within it the model computes in bfloat16, if that was asked for."""
        context: AbstractContextManager[None] = torch.autocast(
            self.args.device.type, dtype=torch.bfloat16, enabled=self.autocast
        )
        return context

    def loss_of(self, rows: Sequence[EncodedRecord]) -> float:
        """See ``held_out_loss``."""
        return held_out_loss(self.model, rows, size=self.args.eval_batch_size, pad=self.pad, bfloat16=self.autocast)

    def log_base(self, logs: dict[str, float]) -> None:
        """Log what was measured of the base on held-out records."""
        self.log(logs)

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Mean negative log-likelihood (nats) over all held-out trained tokens, and its exponential."""
        started = time.perf_counter()
        loss = self.loss_of(self.eval_dataset if eval_dataset is None else eval_dataset)
        metrics = {
            f"{metric_key_prefix}_loss": loss,
            f"{metric_key_prefix}_perplexity": perplexity(loss),
            f"{metric_key_prefix}_seconds": round(time.perf_counter() - started, 3),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class Bar(TrainerCallback):  # type: ignore[misc]
    """Moves a progress bar and says a line after each epoch."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.advance(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        # Private training is settled in steps: its batches differ in size, so no step ends an epoch exactly.
        at = f"epoch {state.epoch or 0:.0f} of {args.num_train_epochs:.0f}"
        if args.max_steps > 0:
            at = f"step {state.global_step} of {args.max_steps}"
        if BASE_PERPLEXITY in logs:
            console.print(f"before training: held-out perplexity {logs[BASE_PERPLEXITY]:.2f}", highlight=False)
        elif "eval_perplexity" in logs:
            console.print(f"{at}: held-out perplexity {logs['eval_perplexity']:.2f}", highlight=False)
        elif "loss" in logs:
            console.print(f"{at}: training loss {logs['loss']:.3f} nats a token", highlight=False)
