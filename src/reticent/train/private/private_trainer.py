# SPDX-License-Identifier: Apache-2.0
"""Differentially private training as a mixin over ``transformers.Trainer`` and what derives from it.

```python
class PrivateSFTTrainer(PrivateTrainerMixin, trl.SFTTrainer):
    pass

spec = PrivacySpec(epsilon=8)
trainer = PrivateSFTTrainer(
    model=model, args=args, train_dataset=dataset,
    plan=lambda population: make_plan(spec, population, batch_size=256, steps=500, key=open_key(args.output_dir)),
)
trainer.train()
print(trainer.promise.sentence())
```

One optimizer step (Abadi et al., "Deep Learning with Differential Privacy", 2016, algorithm 1): the units that the
plan's sampler draws → micro-batches → sum of clipped gradients → sum over processes → noise, once → ``.grad``. The rest
(optimizer, schedule, checkpoints, evaluation) is the Trainer's. ``gradient_accumulation_steps`` is 1 and
``max_grad_norm`` 0; ``max_steps`` follows the plan, and ``per_device_train_batch_size`` plays no part.

Guarantee: the weights, at any time, satisfy ``promise``. It covers nothing else that training sees, so the loss on the
training data, gradient norms and counts of tokens are neither logged nor saved (``TrainOutput.training_loss`` is NaN).
A held-out loss is; it tells of the held-out records, which are not trained on and not protected.

Several processes (``torchrun --nproc_per_node 2 script.py``): rank r takes every r-th unit of each batch, all add the
same noise. DistributedDataParallel is not used, as it would sum gradients before they are clipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import TrainOutput

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.run_folder import PROMISE_FILE
from reticent.privacy.clip.clipper import Clipper
from reticent.privacy.clip.make import make_clipper
from reticent.privacy.division import Division
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.noise import NoiseSums, add_noise
from reticent.privacy.plan import PrivacyPlan
from reticent.privacy.probe import Alone, SingleUnit
from reticent.privacy.sampling import Population, Unit
from reticent.privacy.self_check import SelfCheck, SelfCheckItem
from reticent.train.dropout import keyed_dropout
from reticent.train.planned_end import planned_end
from reticent.train.private.logical_batches import logical_batches
from reticent.train.private.micro_batches import MicroBatch, micro_batches, row_of
from reticent.train.private.population import population_of, read_of
from reticent.train.private.public_batch import public_batches
from reticent.train.private.settings import (
    CPU_MICRO_TOKENS,
    MICRO_TOKENS,
    PrivateSpeed,
    agree,
    chosen,
    fitting_plan,
    refuse_broken,
    refuse_trained_on,
    refuse_trainer,
)
from reticent.train.private.step_log import StepLog, alone, forget_key, open_key, settings_fingerprint

__all__ = ["PrivateSpeed", "PrivateTrainerMixin", "forget_key", "open_key", "population_of"]

_LOGGED = ("learning_rate", "train_runtime", "train_steps_per_second")
"""Entries that are logged of a training step: none depends on the records."""


class PrivateTrainerMixin:
    """Put before a Trainer class: ``class PrivateTrainer(PrivateTrainerMixin, Trainer)``.

    The collator of the Trainer is not used in training: records are padded here, with ``labels`` as they are.

    Args:
        plan: what is promised, or a function that makes the plan for the population of ``train_dataset`` as the Trainer
            has prepared it. Its key should come from ``open_key(args.output_dir)``: then the same script goes on from a
            checkpoint. One plan is one training.
        population: whose records ``train_dataset`` holds, in its order; None: ``population_of(train_dataset)``.
        speed: see ``PrivateSpeed``.
        evaluation: what the evaluation set is, where its loss steers the training; see
            `reticent.privacy.training_setup.TrainingSetup`.
        public: with a plan for spans (``protect="spans"``), the text that is learned without noise; ``train_dataset``
            then holds what is sensitive. Both are made by ``token_mask.select``.

    Raises:
        BadInput: a setting voids the guarantee, a layer cannot be clipped, or the plan is for other data.

    Examples:
        >>> from transformers import Trainer
        >>> class PrivateTrainer(PrivateTrainerMixin, Trainer):
        ...     pass
        ...
        >>> PrivateTrainer.mro()[1].__name__
        'PrivateTrainerMixin'
    """

    args: Any
    model: Any
    state: Any
    accelerator: Any
    train_dataset: Any
    eval_dataset: Any
    held_out_blindly = False
    """True if the evaluation set was chosen independently of the training data; only then may texts be in both."""

    def __init__(
        self,
        *args: Any,
        plan: PrivacyPlan | Callable[[Population], PrivacyPlan],
        population: Population | None = None,
        speed: PrivateSpeed | None = None,
        evaluation: Literal["held_out", "public"] | None = None,
        public: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.speed = speed or PrivateSpeed()
        self._read = read = read_of(self.train_dataset)
        refuse_trainer(self, read, "user", evaluation)
        self.plan = fitting_plan(plan, population, read, self.args)
        if self.plan.unit != "user":
            refuse_trainer(self, read, self.plan.unit, evaluation)
        self.public = public_batches(public, self.train_dataset, self.plan)
        self.clipper = self._make_clipper()
        self.self_check: SelfCheck | None = None
        self.checks: tuple[SelfCheckItem, ...] = ()
        self._promises: dict[int, PrivacyGuarantee] = {}
        self._steps_here = 0
        self._evaluating = self._ended = False
        self._users = (population or read).users
        self._watched: Any = None
        self._looked_at: list[Any] = []
        self.add_callback(_StepDone(self))  # type: ignore[attr-defined]

    # ---- what is promised ------------------------------------------------------------------------------------------

    @property
    def promise(self) -> PrivacyGuarantee:
        """The guarantee of the current weights; once the training has ended, of all steps that were planned: the
        choice of an earlier end may tell of the data."""
        steps = self.plan.steps if self._ended else int(self.state.global_step)
        if steps not in self._promises:
            self._promises[steps] = self.plan.spent(steps)
        return self._promises[steps]

    # ---- one step --------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """One item is one batch of the plan, the same on all ranks."""
        return logical_batches(self.plan.sampler)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Set ``.grad`` of every trained parameter to the noisy mean of clipped gradients; 0 stands for the loss."""
        step, units = int(inputs["step"]), inputs["units"]
        if step != self.state.global_step:
            raise RuntimeError(
                f"the Trainer is at step {self.state.global_step} and was given the batch of step {step}"
            )
        check = self._check()
        self._watch_optimizer(check)
        check.drawn(step, units)
        self.model.train()
        process, processes = self.args.process_index, self.args.world_size
        of_process = units[process::processes]
        if check.due(step):
            self._probe(self._to_probe(units), check)
        with keyed_dropout(self.plan.key, "private dropout", step, process, self.args.device):
            contributed = check.clipped(self._clip(of_process), units=self._trained_units(of_process))
        sums = self.clipper.take()
        self._sum_over_processes(sums, contributed)
        check.before_noise(sums, contributed)
        check.after_noise(sums, self._add_noise(sums, step))
        self._give(sums)
        if self.public is not None:
            self.public.add_gradient(
                self.model,
                step,
                micro_tokens=self._micro_tokens,
                pad=self._pad,
                autocast=self._autocast,
                process=process,
                processes=processes,
            )
        check.given(public=self.public is not None)
        return torch.zeros((), device=self.args.device)

    def _clip(self, units: Sequence[Unit], stretches: Sequence[float] | None = None) -> torch.Tensor:
        """Add the clipped gradients of ``units`` to the clipper's sums; returns the norm of each that trains anything,
        in their order, 0 where it is not finite.

        Args:
            stretches: what to multiply the loss of each unit by.
        """
        norms: dict[int, torch.Tensor] = {}
        again: list[torch.Tensor] = []
        finite = 0
        for batch in self._micro_batches(units):
            weight = batch.weight
            if stretches is not None:
                factor = torch.tensor([stretches[place] for place in batch.places], device=weight.device)
                weight = weight * factor.repeat_interleave(batch.rows_per_unit)
            with self.clipper.attached():
                seen = self.clipper.accumulate(
                    batch.inputs, batch.labels, weight=weight, rows_per_unit=batch.rows_per_unit
                )
            finite += int(seen.finite.sum())
            for place, norm in zip(batch.places, seen.norm, strict=True):
                again += [norm] if place in norms else []
                norms.setdefault(place, norm)
        if norms and not finite:
            refuse_broken(self._weights)
        ordered = [norms[place] for place in sorted(norms)] + again
        return torch.stack(ordered) if ordered else torch.zeros(0, device=self.args.device)

    def _micro_batches(self, units: Sequence[Unit]) -> Iterator[MicroBatch]:
        for batch in micro_batches(units, self.train_dataset, micro_tokens=self._micro_tokens, pad=self._pad):
            yield (batch if self.public is None else self.public.weighed(batch)).to(self.args.device)

    def _trained_units(self, units: Sequence[Unit]) -> int:
        """How many of them train on any token."""
        return sum(any(row_of(self.train_dataset, row).is_trained for row in unit) for unit in units)

    def _probe(self, units: Sequence[Unit], check: SelfCheck) -> None:
        """A few units together and each alone. Nothing may be accumulated."""
        alone = [(rows, unit) for rows, unit in ((self._alone(unit), unit) for unit in units) if rows]
        for some in chosen(sorted(alone, key=lambda candidate: sum(len(row.ids) for row in candidate[0]))):

            def run(
                stretches: Sequence[float], some: Any = some
            ) -> tuple[dict[nn.Parameter, torch.Tensor], torch.Tensor]:
                return self._together([unit for _, unit in some], stretches)

            rows = [rows for rows, _ in some]
            check.probe(self.model, rows, run, autocast=self._autocast, alone=self._by_autograd(check))

    def _to_probe(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """Of the units of a step those that this process runs a second time: its own."""
        return units[self.args.process_index :: self.args.world_size]

    def _together(
        self, units: Sequence[Unit], stretches: Sequence[float]
    ) -> tuple[dict[nn.Parameter, torch.Tensor], torch.Tensor]:
        """Clipped sums and norms of a few units by the way of the training."""
        norms = self._clip(units, stretches)
        return self.clipper.take(), norms

    def _by_autograd(self, check: SelfCheck) -> Alone | None:
        """How single units are run alone; None for plain autograd of the model."""
        return None

    def _alone(self, unit: Unit) -> list[SingleUnit]:
        """The rows of a unit that train anything, each by itself; a unit's rows are averaged, or, of marked spans, the
        tokens of a mean record of public text are what their sums are divided by."""
        rows = [tokens for tokens in (row_of(self.train_dataset, row) for row in unit) if tokens.is_trained]
        device = self.args.device
        return [
            SingleUnit(
                ids=torch.from_numpy(tokens.ids).to(device),
                labels=torch.from_numpy(tokens.labels).to(device),
                weight=(1.0 if self.public is None else tokens.predicted / self.public.tokens) / len(rows),
            )
            for tokens in rows
        ]

    def _watch_optimizer(self, check: SelfCheck) -> None:
        """Look at gradients and weights right before and after the optimizer's own step."""
        optimizer = getattr(self, "optimizer", None)
        optimizer = getattr(optimizer, "optimizer", optimizer)  # Accelerate wraps it
        if optimizer is self._watched:
            return
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise BadInput(
                f"optimizer {type(optimizer).__name__}",
                "does not let its steps be watched, so it cannot be checked that it takes the noised gradient alone",
                'Take an optimizer of PyTorch, such as optim="adamw_torch" or "sgd".',
            )
        self._watched = optimizer

        def before(stepped: torch.optim.Optimizer, *_: Any) -> None:
            check.before_update(self._seen([tensor for group in stepped.param_groups for tensor in group["params"]]))

        def after(*_: Any) -> None:
            check.after_update()

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)

    def _sum_over_processes(self, sums: Mapping[nn.Parameter, torch.Tensor], contributed: torch.Tensor) -> None:
        if self.args.world_size > 1:
            for tensor in (*sums.values(), contributed):
                dist.all_reduce(tensor, op=dist.ReduceOp.SUM)

    def _give(self, noised: Mapping[nn.Parameter, torch.Tensor]) -> None:
        """Leave it to the optimizer."""
        for parameter, gradient in noised.items():
            parameter.grad = gradient.to(parameter.dtype)

    def _seen(self, optimized: list[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors that the optimizer may change, as the self-check knows them."""
        return optimized

    @property
    def _weights(self) -> Any:
        """The part of the model that this process holds."""
        return self.model

    def _add_noise(self, sums: Mapping[nn.Parameter, torch.Tensor], step: int) -> list[NoiseSums]:
        """In place: ``(sum + σC·N(0, 1)) / expected batch``. All processes draw the same noise from the same key."""
        std = self.plan.noise_multiplier * self.plan.clip_norm
        scale = 1 / self.plan.expected_batch
        return [
            add_noise(total, std=std, scale=scale, key=self.plan.key, step=step, index=index)
            for index, total in enumerate(sums.values())
        ]

    # ---- around the steps ------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As the Trainer's. When it returns, the key is gone and the training cannot be gone on with.

        Raises:
            BadInput: it would use the plan's noise a second time, or processes have different plans.
            GuaranteeViolated: the self-check found that the engine does not do what was promised.
        """
        if self._steps_here and not resume_from_checkpoint:
            raise BadInput(
                "train() for a second time",
                "would add the noise of the first to other gradients, and both could be subtracted",
                "Make a new trainer with a new plan (their ε add up), or give resume_from_checkpoint.",
            )
        with alone(self.args.output_dir, self.args.process_index):
            if not resume_from_checkpoint:
                self._ledger.refuse_reuse(Path(self.args.output_dir))
            agree((self.plan.fingerprint, self._ledger.settings), self.args.world_size)
            self._check()
            output: TrainOutput = super().train(resume_from_checkpoint, *args, **kwargs)  # type: ignore[misc]
            self._ended = True
            self.checks = self._finished()
            self._forget_key()
        metrics = {name: value for name, value in output.metrics.items() if name in (*_LOGGED, "epoch")}
        return TrainOutput(output.global_step, math.nan, metrics)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        self._ledger.refuse_other(Path(resume_from_checkpoint))
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        if self.args.should_save:
            self._ledger.write(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the Trainer's, with the promise beside the weights."""
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]
        if self.args.should_save:
            self.write_promise(output_dir or self.args.output_dir)

    def write_promise(self, folder: str) -> None:
        """Put the guarantee of the current weights into ``folder``."""
        write_text(Path(folder) / PROMISE_FILE, self.promise.to_json() + "\n")

    def verify_saved(self, folder: str | Path) -> tuple[SelfCheckItem, ...]:
        """Check that ``folder`` holds the trained parameters as they are now; all checks, for the logs.

        Raises:
            GuaranteeViolated: it does not.
        """
        self._check().saved(Path(folder))
        self.checks = self._finished()
        return self.checks

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's, on other records than those that are trained on."""
        before, self._evaluating = self._evaluating, True
        try:
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._evaluating = before

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's: what ``evaluate`` and ``predict`` go through.

        Raises:
            BadInput: records of it are trained on, and no noise covers what is measured of them.
        """
        dataset = getattr(dataloader, "dataset", None)
        if not any(dataset is looked_at for looked_at in self._looked_at):
            refuse_trained_on(dataset, self._read.rows, blindly=self.held_out_blindly and dataset is self.eval_dataset)
            self._looked_at.append(dataset)
        return super().evaluation_loop(dataloader, *args, **kwargs)  # type: ignore[misc]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log what does not depend on training records: of an evaluation all, of steps learning rate and time."""
        if not self._evaluating:
            logs = {name: value for name, value in logs.items() if name in _LOGGED}
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> None:
        """Not measured: of the noised gradient it says little, of the clipped one it must not be said."""

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        """The model itself: no DistributedDataParallel, and autocast where it is called."""
        # What Accelerate has marked so it takes for prepared, and leaves alone.
        model._is_accelerate_prepared = True
        if training and self.args.world_size > 1:
            with torch.no_grad():
                for tensor in (*model.parameters(), *model.buffers()):
                    dist.broadcast(tensor, src=0)
        return model

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> Any:
        """For evaluation; in training the clipper enters it."""
        enabled = self._autocast is not None
        return torch.autocast(self.args.device.type, dtype=self._autocast, enabled=enabled)

    # ---- made once -------------------------------------------------------------------------------------------------

    @property
    def _autocast(self) -> torch.dtype | None:
        return self.speed.autocast or (torch.bfloat16 if self.args.bf16 else None)

    @property
    def _micro_tokens(self) -> int:
        return self.speed.micro_tokens or (CPU_MICRO_TOKENS if self.args.device.type == "cpu" else MICRO_TOKENS)

    @cached_property
    def _pad(self) -> int:
        processor: Any = getattr(self, "processing_class", None)
        tokenizer = getattr(processor, "tokenizer", processor)
        for token in (getattr(tokenizer, "pad_token_id", None), getattr(tokenizer, "eos_token_id", None)):
            if token is not None:
                return int(token)
        return 0

    @property
    def _ledger(self) -> StepLog:
        return StepLog(
            plan=self.plan.fingerprint,
            settings=settings_fingerprint(self.args, self.model) + (self.public.fingerprint if self.public else ""),
            steps=int(self.state.global_step),
            event=repr(self.plan.event),
        )

    @property
    def _division(self) -> Division | None:
        """How the trained parameters are divided over processes; None where each holds all."""
        return None

    def _make_clipper(self) -> Clipper:
        return make_clipper(
            self.model,
            clip_norm=self.plan.clip_norm,
            clipping=self.plan.spec.clipping,  # type: ignore[arg-type]
            impl=self.speed.impl,
            autocast=self._autocast,
        )

    def _check(self) -> SelfCheck:
        """The self-check, made before the first step of this process."""
        if self.self_check is None:
            self.self_check = SelfCheck(self.plan, self._weights, users=self._users, division=self._division)
        return self.self_check

    def _step_done(self) -> None:
        self._steps_here += 1
        self._check().step_done(int(self.state.global_step) - 1)
        # How often a unit was drawn, on average.
        self.state.epoch = self.state.global_step * self.plan.sampler.rate

    def _finished(self) -> tuple[SelfCheckItem, ...]:
        # A training that was resumed behind its last step has run nothing that could be checked.
        if not self._steps_here:
            return ()
        return (*self._check().finished(self.promise), planned_end(int(self.state.global_step), self.plan.steps))

    def _forget_key(self) -> None:
        forget_key(self.args.output_dir)


class _StepDone(TrainerCallback):  # type: ignore[misc]
    """Tells the trainer that the optimizer has made its step."""

    def __init__(self, trainer: PrivateTrainerMixin) -> None:
        self.trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.trainer._step_done()
