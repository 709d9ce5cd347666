# SPDX-License-Identifier: Apache-2.0
"""transformers.Trainer with our order of records, our mixed precision and a held-out loss that weighs tokens evenly."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reticent.core.progress import console
from reticent.models.encode import EncodedRecord
from reticent.train.batches import IGNORED, LengthGrouped, collate
from reticent.train.diverged import Diverged
from reticent.train.dropout import keyed_dropout
from reticent.train.gathered import is_part
from reticent.train.held_out import BASE_PERPLEXITY, held_out_loss, perplexity
from reticent.train.ranks import ranks
from reticent.train.seen_rows import SeenRows


class TrainingEnded(Exception):
    """Raised by a callback before the first step, when the checkpoint that is gone on with is where training ended."""


class WholeBatches(DataLoader[Any]):
    """The batches of all processes together, the same in each: a step takes its share of them itself."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.sampler.set_epoch(epoch)  # type: ignore[attr-defined]


class TuneTrainer(Trainer):  # type: ignore[misc]
    """One fine-tuning, in one process or in several that `reticent.train.leading.led` brought together.

    In several, each takes its rows of every batch, losses are weighed by the tokens that each has of it, and gradients
    are summed before they are clipped. DistributedDataParallel is not used: it takes means over processes, which are
    not those over tokens, and waits for ever for a process that has no row of the last batch.

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
        self.ranks, self.seen = ranks(), SeenRows()
        self._weight = 1.0

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGrouped:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return LengthGrouped([len(row) for row in rows], self.args.train_batch_size, self.args.seed)

    # ---- several processes -----------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> Any:
        """Batches of all processes together."""
        if self.ranks.size == 1:
            return super().get_train_dataloader()
        return WholeBatches(
            self.train_dataset,
            batch_size=self.args.train_batch_size,
            sampler=self._get_train_sampler(),
            collate_fn=self.data_collator,
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """As the Trainer's; what comes is what the next step sees."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            self.seen.add(batch)
        return batches, items

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Set ``.grad`` to the gradient of the batch's loss, and return that loss."""
        if self.ranks.size == 1:
            return super().training_step(model, inputs, num_items_in_batch)
        mine = self.share_of(inputs)
        self._weight = _trained(mine["labels"]) / max(_trained(inputs["labels"]), 1)
        loss = torch.zeros((), device=self.args.device)
        step = int(self.state.global_step)
        with keyed_dropout(_key(self.args.seed), "dropout", step, self.ranks.rank, self.args.device):
            if len(mine["labels"]):
                loss = super().training_step(model, mine, num_items_in_batch)
        total = self.summed(loss)
        self._check_finite(float(total))
        return total

    def share_of(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The rows of a batch that this process computes; there may be none."""
        return self.ranks.share(inputs)

    def summed(self, loss: torch.Tensor) -> torch.Tensor:
        """The sum of all processes' losses (scalars). Gradients are those of that sum afterwards."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return self.ranks.sum_gradients(trained, loss)

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        """The model itself, the same in all processes."""
        if self.ranks.size == 1:
            return super()._wrap_model(model, training, dataloader)
        # What Accelerate has marked so it takes for prepared, and leaves alone.
        model._is_accelerate_prepared = True
        self.ranks.equalise([tensor for tensor in model.parameters() if tensor.requires_grad])
        return model

    def floating_point_ops(self, inputs: dict[str, Any]) -> Any:
        """Of this process's share; the Trainer adds those of all."""
        return super().floating_point_ops(inputs) / self.ranks.size

    def _save_rng_state(self, output_dir: str) -> None:
        """Of the leader alone: dropout of several processes follows from the step."""
        if self.ranks.leads:
            super()._save_rng_state(output_dir)

    # ---- the loss --------------------------------------------------------------------------------------------------

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
            by_all = result is None and num_items_in_batch is not None and self.model_accepts_loss_kwargs
            if result is None:
                result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.ranks.size > 1:  # all say together whether it is finite
            return result if by_all else result * self._weight
        loss = result[0] if isinstance(result, tuple) else result
        self._check_finite(loss.item())
        return result

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise Diverged(
                f"learning_rate={self.args.learning_rate:g}",
                f"the training diverged: the loss is {loss} at step {self.state.global_step + 1}",
                "Choose a lower learning rate.",
            )

    def batch_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor | None:
        """The loss of a batch of training where it is another than the model's own; None where it is that. The
        held-out loss always is."""
        return None

    def outcome(self) -> Any:
        """The model that is saved. Asked for once, when training has ended."""
        return self.model

    def whole(self, model: Any) -> AbstractContextManager[Mapping[str, torch.Tensor] | None]:
        """The tensors of ``model`` to be saved, by the names of its ``state_dict``, where that has parts alone; None
        where it is whole. All processes enter it."""
        return nullcontext()

    def follow_saving(self) -> None:
        """Of a process that does not lead: give its part of the model to the leader, who saves it."""
        with self.whole(self.model):
            pass

    def measured_base(self, folder: Path, before: float | None, *, goes_on: bool) -> float | None:
        """The held-out loss of the base, where processes measure it together once they have shared the model out; else
        what was measured ``before``. Of all processes.

        Args:
            folder: of the training's checkpoints.
            before: measured by the leader.
            goes_on: from a checkpoint.
        """
        return before

    def computing(self) -> AbstractContextManager[None]:
        """Within it the model computes in bfloat16, if that was asked for."""
        context: AbstractContextManager[None] = torch.autocast(
            self.args.device.type,
            dtype=torch.bfloat16,
            enabled=self.autocast,
            # A copy of each matrix in 16 bits would be kept until the pass has ended.
            cache_enabled=not is_shared_out(self.model),
        )
        return context

    def loss_of(self, rows: Sequence[EncodedRecord]) -> float:
        """See ``held_out_loss``."""
        return held_out_loss(self.model, rows, size=self.args.eval_batch_size, pad=self.pad, bfloat16=self.autocast)

    def log_base(self, logs: dict[str, float]) -> None:
        """Log what was measured of the base on held-out records."""
        self.log(logs)

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Mean negative log-likelihood (nats) over all held-out trained tokens, and its exponential. Of several
        processes the leader measures."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        return self.ranks.from_leader(lambda: self.measured(lambda: self.loss_of(rows), metric_key_prefix))

    def measured(self, measure: Callable[[], float], metric_key_prefix: str) -> dict[str, float]:
        """Log a held-out loss, tell callbacks of it, and return what was logged. Of the leader."""
        started = time.perf_counter()
        loss = measure()
        metrics = {
            f"{metric_key_prefix}_loss": loss,
            f"{metric_key_prefix}_perplexity": perplexity(loss),
            f"{metric_key_prefix}_seconds": round(time.perf_counter() - started, 3),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _trained(labels: torch.Tensor) -> int:
    """How many tokens of ``[B, T]`` labels are predicted."""
    return int((labels[:, 1:] != IGNORED).sum())


def is_shared_out(model: Any) -> bool:
    """True if this process has a part alone of what is trained."""
    return any(is_part(parameter) for parameter in model.parameters() if parameter.requires_grad)


def weights_of(model: Any) -> list[int]:
    """For each trained parameter the sum of its bits, read as whole numbers: exact, in whatever order it is added."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    return [int(tensor.contiguous().view(kinds[tensor.element_size()]).sum(dtype=torch.int64)) for tensor in trained]


def _key(seed: int) -> bytes:
    """The key of the dropout of several processes; nothing secret."""
    return hashlib.sha256(f"dropout {seed}".encode()).digest()


class InStep(TrainerCallback):  # type: ignore[misc]
    """The last of the callbacks: what those of the leader decided holds in all processes, which wait for it here. So a
    callback of the leader may look at the model, or end the training, and knows nothing of other processes.

    Args:
        seen: rows that the steps of this process saw.
    """

    FLAGS = ("should_training_stop", "should_epoch_stop", "should_save", "should_evaluate", "should_log")

    def __init__(self, seen: SeenRows) -> None:
        self.seen = seen

    def _agree(self, control: TrainerControl) -> None:
        decided = ranks().from_leader(lambda: {flag: getattr(control, flag) for flag in self.FLAGS})
        if isinstance(decided, TrainingEnded):
            raise decided
        for flag, value in decided.items():
            setattr(control, flag, value)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._agree(control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._agree(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._agree(control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Once the leader has written its checkpoint: all saw the same rows for it, and have the same weights.

        Raises:
            BadInput: they have not.
        """
        here = ranks()
        if here.size > 1:
            here.agree(f"rows up to step {state.global_step}", self.seen.digest)
            if not is_shared_out(kwargs["model"]):
                here.agree(f"weights after step {state.global_step}", weights_of(kwargs["model"]))


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
