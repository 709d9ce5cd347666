# SPDX-License-Identifier: Apache-2.0
"""Named faults of a private training, each planted in the product's own engine, to see whether its self-check stops it.

A fault is a few lines that break one thing: noise, clipping, batches, accounting, or what reaches the weights beside
them. `run` makes a small private training with one fault (or none) and says whether, and when, it was stopped. The list
is for `benchmarks/dp_faults.py` and for the tests; whoever changes the engine should add the fault that they fear.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from reticent.core.errors import BadInput
from reticent.models.tuning.method import TUNINGS
from reticent.privacy.check import BrokenPromise
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import tiny_of_family
from reticent.train.private import PrivateSpeed, PrivateTrainerMixin

STEPS, RECORDS, BATCH, CLIP_NORM = 30, 100, 12, 0.5
PER_USER = 4


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The training in which a fault is planted.

    Args:
        unit: of the promise; with "user" each has ``PER_USER`` records.
        family, tuning: of the model.
        clipping: see ``PrivacySpec``.
        bfloat16: whether activations are in it.
        steps: of the plan.
        seed: of the texts and the key.
    """

    unit: str = "record"
    family: str = "llama"
    tuning: str = "full"
    clipping: str = "flat"
    bfloat16: bool = False
    steps: int = STEPS
    seed: int = 0


@dataclass(kw_only=True)
class Rig:
    """What a fault gets hold of: the trainer, and a way to put something in the place of one of its parts."""

    trainer: Any
    patches: ExitStack
    memory: dict[str, Any] = field(default_factory=dict)

    def put(self, owner: Any, name: str, value: Any) -> Any:
        """Replace an attribute while the run lasts; returns what was there."""
        before = getattr(owner, name)
        self.patches.enter_context(mock.patch.object(owner, name, value))
        return before

    def each_step(self, act: Callable[[int], None]) -> None:
        """Call ``act(step)`` at the end of every step, as a callback of the user's would be."""

        class Act(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                act(int(state.global_step) - 1)

        self.trainer.add_callback(Act())

    @property
    def weights(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.trainer.model.named_parameters() if p.requires_grad]


class Fault(NamedTuple):
    """One thing that is wrong.

    Args:
        name: what.
        costs_privacy: whether the promise is broken by it, and not only the model worse.
        plant: breaks it.
        setting: in which training.
        outcome: looks at a finished trainer, where the fault shows in what is stated and not in the run; None: it has
            to be stopped.
    """

    name: str
    costs_privacy: bool
    plant: Callable[[Rig], None]
    setting: Setting
    outcome: Callable[[Any], bool] | None = None


class Outcome(NamedTuple):
    """How a run ended.

    Args:
        step: at which it was stopped, from 0; None where it was not.
        why: what it was stopped by, or what was seen at the end.
        caught: whether the fault shows.
    """

    step: int | None
    why: str
    caught: bool


class PrivateTrainer(PrivateTrainerMixin, Trainer):  # type: ignore[misc]
    """What a user of transformers writes."""


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, *, privacy: bool = True, outcome: Callable[[Any], bool] | None = None, **setting: Any
) -> Callable[[Callable[[Rig], None]], Callable[[Rig], None]]:
    """Register a fault under its name."""

    def register(plant: Callable[[Rig], None]) -> Callable[[Rig], None]:
        assert name not in FAULTS, name
        FAULTS[name] = Fault(name, privacy, plant, Setting(**setting), outcome)
        return plant

    return register


def run(planted: Fault | None = None, setting: Setting | None = None) -> Outcome:
    """Train once, with the fault or right, and say how it ended."""
    setting = setting or (planted.setting if planted else Setting())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        trainer = make_trainer(setting, folder)
        try:
            if planted is not None:
                planted.plant(Rig(trainer=trainer, patches=patches))
            trainer.train()
        except BrokenPromise as error:
            return Outcome(int(trainer.state.global_step), str(error), True)
        except BadInput as error:
            return Outcome(int(trainer.state.global_step), f"refused: {error}", True)
        if planted is not None and planted.outcome is not None:
            return Outcome(None, "in what is stated", planted.outcome(trainer))
    return Outcome(None, "", False)


def make_trainer(setting: Setting, folder: str) -> PrivateTrainer:
    """A tiny model on random texts of different lengths; the noise is that of ``noise_multiplier`` 1."""
    draw = np.random.default_rng(setting.seed)
    rows = [{"input_ids": draw.integers(5, 250, size=draw.integers(3, 20)).tolist()} for _ in range(RECORDS)]
    if setting.unit == "user":
        rows = [row | {"user": f"u{place // PER_USER}"} for place, row in enumerate(rows)]
    units = RECORDS if setting.unit == "record" else RECORDS // PER_USER
    records = {"records_per_user": PER_USER} if setting.unit == "user" else {}
    spec = PrivacySpec(
        noise_multiplier=1.0, clip_norm=CLIP_NORM, unit=setting.unit, clipping=setting.clipping, **records
    )
    key = hashlib.sha256(f"faults {setting.seed}".encode()).digest()
    batch = min(BATCH, units // 3)
    model = tiny_of_family(setting.family, seed=setting.seed)
    return PrivateTrainer(
        model=TUNINGS.get(setting.tuning)(model).train(),
        args=TrainingArguments(
            folder, max_grad_norm=0.0, learning_rate=1e-3, use_cpu=True, report_to="none", save_strategy="no",
            disable_tqdm=True, logging_strategy="no", remove_unused_columns=False, bf16=setting.bfloat16,
        ),
        train_dataset=rows,
        plan=lambda people: spec.plan(people, batch_size=batch, steps=setting.steps, key=key),
        speed=PrivateSpeed(micro_tokens=80),
    )  # fmt: skip


# ---- noise -----------------------------------------------------------------------------------------------------------


def noise(name: str, *, privacy: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``change(right, x, step=, index=, std=, scale=, key=)`` in the place of ``add_noise``."""

    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant(rig: Rig) -> None:
            from reticent.train import private

            right = private.add_noise
            rig.put(private, "add_noise", lambda x, **given: change(right, x, **given))

        fault(name, privacy=privacy)(plant)
        return change

    return register


@noise("noise: none")
def _(right: Any, x: Any, **given: Any) -> Any:
    return right(x, **given | {"std": 0.0})


@noise("noise: half")
def _(right: Any, x: Any, std: float, **given: Any) -> Any:
    return right(x, std=std / 2, **given)


@noise("noise: 5 % too small")
def _(right: Any, x: Any, std: float, **given: Any) -> Any:
    return right(x, std=std * 0.95, **given)


@noise("noise: 2 % too small")
def _(right: Any, x: Any, std: float, **given: Any) -> Any:
    return right(x, std=std * 0.98, **given)


@noise("noise: fades by 1 % a step")
def _(right: Any, x: Any, std: float, step: int, **given: Any) -> Any:
    return right(x, std=std * 0.99**step, step=step, **given)


@noise("noise: twice", privacy=False)
def _(right: Any, x: Any, std: float, **given: Any) -> Any:
    return right(x, std=std * math.sqrt(2), **given)


@noise("noise: the same in every step")
def _(right: Any, x: Any, step: int, **given: Any) -> Any:
    return right(x, step=0, **given)


@noise("noise: period 2")
def _(right: Any, x: Any, step: int, **given: Any) -> Any:
    return right(x, step=step % 2, **given)


@noise("noise: period 10")
def _(right: Any, x: Any, step: int, **given: Any) -> Any:
    return right(x, step=step % 10, **given)


def _negated(right: Any, x: Any, step: int, of: int, **given: Any) -> Any:
    x.neg_()
    seen = right(x, step=of, **given)
    x.neg_()
    return seen


@noise("noise: negated in each second step")
def _(right: Any, x: Any, step: int, **given: Any) -> Any:
    return _negated(right, x, step, step - 1, **given) if step % 2 else right(x, step=step, **given)


@noise("noise: cancels two steps apart")
def _(right: Any, x: Any, step: int, **given: Any) -> Any:
    return _negated(right, x, step, step - 2, **given) if step % 4 > 1 else right(x, step=step, **given)


@noise("noise: the same in all parameters")
def _(right: Any, x: Any, index: int, **given: Any) -> Any:
    return right(x, index=0, **given)


@noise("noise: the same in parameters i and i + 2")
def _(right: Any, x: Any, index: int, **given: Any) -> Any:
    return right(x, index=index - 2 if index % 4 > 1 else index, **given)


@noise("noise: not in one row")
def _(right: Any, x: Any, std: float, scale: float, index: int, **given: Any) -> Any:
    row = x[37].clone() if index == 0 else None
    seen = right(x, std=std, scale=scale, index=index, **given)
    if row is not None:
        x[37] = row * scale
    return seen


@noise("noise: in half of each parameter")
def _(right: Any, x: Any, scale: float, **given: Any) -> Any:
    flat = x.view(-1)
    kept = flat[x.numel() // 2 :].clone()
    seen = right(x, scale=scale, **given)
    flat[x.numel() // 2 :] = kept * scale
    return seen


@noise("noise: in one parameter missing")
def _(right: Any, x: Any, std: float, index: int, **given: Any) -> Any:
    return right(x, std=0.0 if index == 5 else std, index=index, **given)


@noise("noise: uniform of the same size")
def _(right: Any, x: Any, std: float, scale: float, **given: Any) -> Any:
    seen = right(x.clone(), std=std, scale=scale, **given)
    x.add_((torch.rand_like(x) - 0.5) * (std * math.sqrt(12))).mul_(scale)
    return seen


@noise("noise: of PyTorch's global generator")
def _(right: Any, x: Any, std: float, scale: float, **given: Any) -> Any:
    seen = right(x.clone(), std=std, scale=scale, **given)
    x.add_(torch.randn_like(x) * std).mul_(scale)
    return seen


@noise("noise: under another key")
def _(right: Any, x: Any, key: bytes, **given: Any) -> Any:
    return right(x, key=bytes(reversed(key)), **given)


@noise("noise: under a key that somebody else knows")
def _(right: Any, x: Any, **given: Any) -> Any:
    """Nothing that can be measured differs: whoever knows the key subtracts the noise. It is why the key is secret."""
    return right(x, **given)


@noise("noise: rounded to whole standard deviations")
def _(right: Any, x: Any, std: float, scale: float, **given: Any) -> Any:
    before = x.clone()
    seen = right(x, std=std, scale=scale, **given)
    x.copy_((before + ((x / scale - before) / std).round() * std) * scale)
    return seen


@noise("divisor: the realised batch")
def _(right: Any, x: Any, scale: float, step: int, **given: Any) -> Any:
    return right(x, scale=scale * (1.3 if step % 2 else 0.8), step=step, **given)


@fault("noise: in a copy, and the clean sum goes to the optimizer")
def _(rig: Rig) -> None:
    trainer = rig.trainer
    right = trainer._add_noise

    def add(sums: Any, step: int) -> Any:
        clean = {p: total.clone() / trainer.plan.expected_batch for p, total in sums.items()}
        seen = right(sums, step)
        rig.memory["clean"] = clean
        return seen

    rig.put(trainer, "_add_noise", add)
    given = trainer._check().given

    def hand_over(**how: Any) -> None:
        for p, gradient in rig.memory["clean"].items():
            p.grad = gradient
        given(**how)

    rig.put(trainer._check(), "given", hand_over)


@fault("noise: in each micro-batch of another, and none after it")
def _(rig: Rig) -> None:
    from reticent.train import private

    right, clipper = private.add_noise, rig.trainer.clipper
    take = clipper.take

    def noisy() -> Any:
        sums = take()
        for total in sums.values():
            total.add_(torch.randn_like(total) * CLIP_NORM)
        return sums

    rig.put(clipper, "take", noisy)
    rig.put(private, "add_noise", lambda x, **given: right(x, **given | {"std": 0.0}))


# ---- clipping --------------------------------------------------------------------------------------------------------


def factors(name: str, *, privacy: bool = True, **setting: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``change(rig, right, uppers, longest)`` in the place of the clipper's choice of factors."""

    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant(rig: Rig) -> None:
            right = rig.trainer.clipper._factors
            rig.put(rig.trainer.clipper, "_factors", lambda *given: change(rig, right, *given))

        fault(name, privacy=privacy, **setting)(plant)
        return change

    return register


def _without(rig: Rig, right: Any, uppers: Any, words: tuple[str, ...]) -> Any:
    """Factors from norms that leave out the parameters whose name has one of the words."""
    names = {p: name for name, p in rig.trainer.model.named_parameters()}
    left = [upper.square() for p, upper in uppers.items() if not any(word in names[p] for word in words)]
    return right(uppers, torch.stack(left).sum(0).sqrt())


@factors("clip: nothing")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    return {p: torch.ones_like(longest) for p in uppers}


@factors("clip: at twice the clip norm")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    return {p: (2 * CLIP_NORM / longest).clamp(max=1) for p in uppers}


@factors("clip: the clip norm grows by 1 % a step")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    limit = CLIP_NORM * 1.01**rig.trainer.state.global_step
    return {p: (limit / longest).clamp(max=1) for p in uppers}


@factors("clip: not one layer")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    found = right(uppers, longest)
    found[list(found)[4]] = torch.ones_like(longest)
    return found


@factors("clip: each layer at the whole clip norm")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    return {p: (CLIP_NORM / upper).clamp(max=1) for p, upper in uppers.items()}


@factors("clip: norms without RMSNorm", privacy=True, tuning="full")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    return _without(rig, right, uppers, ("norm",))


@factors("clip: norms without the embedding")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    return _without(rig, right, uppers, ("embed",))


@factors("clip: the factor of another unit")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    return {p: factor.roll(1) for p, factor in right(uppers, longest).items()}


@factors("clip: one factor for all, of the smallest norm")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    return right(uppers, longest.min().expand_as(longest))


@factors("clip: one factor for all, of the mean norm")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    return right(uppers, longest.mean().expand_as(longest))


@factors("clip: the second half of a micro-batch is not")
def _(rig: Rig, right: Any, uppers: Any, longest: Any) -> Any:
    found = right(uppers, longest)
    for factor in {id(one): one for one in found.values()}.values():
        factor[(len(factor) + 1) // 2 :] = 1
    return found


@fault("clip: norms without the products between uses of a tied weight")
def _(rig: Rig) -> None:
    from reticent.privacy.clip import tape

    rig.put(tape, "squares", lambda contributions, own: torch.stack(own).sum(0))


@fault("clip: norms of short records four times too small")
def _(rig: Rig) -> None:
    from reticent.privacy.clip.tape import Tape

    right = Tape.squares

    def small(tape: Any) -> Any:
        length = next(iter(tape.contributions.values()))[0]
        shape = getattr(length, "left", getattr(length, "value", None))
        short = shape is not None and shape.shape[1] < 8
        return {p: square / 16 if short else square for p, square in right(tape).items()}

    rig.put(Tape, "squares", small)
    rig.put(Tape, "uppers", lambda tape, squares: {p: square.sqrt() for p, square in squares.items()})


@fault("clip: the mean of a micro-batch")
def _(rig: Rig) -> None:
    clipper = rig.trainer.clipper
    right = clipper.accumulate

    def accumulate(inputs: Any, labels: Any, *, weight: Any, rows_per_unit: int = 1) -> Any:
        units = len(labels) // rows_per_unit
        seen = right(inputs, labels, weight=weight / units, rows_per_unit=len(labels))
        whole = {name: getattr(seen, name).expand(units) for name in ("norm", "loss", "finite")}
        return replace(seen, **whole)

    rig.put(clipper, "accumulate", accumulate)


@fault("clip: sums are not forgotten")
def _(rig: Rig) -> None:
    clipper = rig.trainer.clipper
    take = clipper.take

    def remember() -> Any:
        sums = take()
        clipper._totals = {p: total.clone() for p, total in sums.items()}
        return sums

    rig.put(clipper, "take", remember)


def _rows_apart(rig: Rig, *, mean: bool) -> None:
    clipper = rig.trainer.clipper
    right = clipper.accumulate

    def accumulate(inputs: Any, labels: Any, *, weight: Any, rows_per_unit: int = 1) -> Any:
        weight = weight if mean else (weight > 0).float() * weight * PER_USER
        seen = right(inputs, labels, weight=weight, rows_per_unit=1)
        units = len(labels) // rows_per_unit
        together = {name: getattr(seen, name).view(units, rows_per_unit) for name in ("norm", "loss", "finite")}
        norm, loss = together["norm"].square().sum(1).sqrt(), together["loss"].sum(1)
        return replace(seen, norm=norm, loss=loss, finite=together["finite"].all(1))

    rig.put(clipper, "accumulate", accumulate)


@fault("clip: rows of a user one by one", unit="user")
def _(rig: Rig) -> None:
    _rows_apart(rig, mean=True)


@fault("clip: rows of a user one by one, and summed", unit="user")
def _(rig: Rig) -> None:
    _rows_apart(rig, mean=False)


@fault("micro-batch: one is added twice")
def _(rig: Rig) -> None:
    right = rig.trainer._micro_batches

    def twice(units: Any) -> Iterator[Any]:
        for place, batch in enumerate(right(units)):
            yield batch
            if place == 0:
                yield batch

    rig.put(rig.trainer, "_micro_batches", twice)


@fault("micro-batch: one is added twice and looked at once")
def _(rig: Rig) -> None:
    clipper = rig.trainer.clipper
    right = clipper.accumulate
    rig.memory["calls"] = 0

    def accumulate(*given: Any, **how: Any) -> Any:
        rig.memory["calls"] += 1
        if rig.memory["calls"] % 3 == 1:
            right(*given, **how)
        return right(*given, **how)

    rig.put(clipper, "accumulate", accumulate)


@fault("micro-batch: one is left out", privacy=False)
def _(rig: Rig) -> None:
    right = rig.trainer._micro_batches
    rig.put(rig.trainer, "_micro_batches", lambda units: iter(list(right(units))[:-1]))


@fault("micro-batch: attention to padding")
def _(rig: Rig) -> None:
    right = rig.trainer._micro_batches

    def all_ones(units: Any) -> Iterator[Any]:
        for batch in right(units):
            mask = torch.ones_like(batch.inputs["attention_mask"])
            ids = batch.inputs["input_ids"].flip(1)
            labels = batch.labels.flip(1)
            yield replace(batch, inputs={"input_ids": ids, "attention_mask": mask}, labels=labels)

    rig.put(rig.trainer, "_micro_batches", all_ones)


@fault("loss: labels are shifted twice", privacy=False)
def _(rig: Rig) -> None:
    from reticent.privacy.clip import bookkeeping

    right = bookkeeping.row_losses

    def shifted(logits: Any, labels: Any, weight: Any) -> Any:
        return right(logits, nn.functional.pad(labels[:, 1:], (0, 1), value=-100), weight)

    rig.put(bookkeeping, "row_losses", shifted)


@fault("loss: divided by the batch", privacy=False)
def _(rig: Rig) -> None:
    clipper = rig.trainer.clipper
    right = clipper.accumulate
    rig.put(clipper, "accumulate", lambda *given, weight, **how: right(*given, weight=weight / BATCH, **how))
