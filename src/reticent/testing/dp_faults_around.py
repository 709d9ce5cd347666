# SPDX-License-Identifier: Apache-2.0
"""Faults around the step of a private training, see `reticent.testing.dp_faults`: batches, accounting, weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from reticent.testing.dp_faults import BATCH, STEPS, Rig, fault

# ---- batches ---------------------------------------------------------------------------------------------------------


def sampled(name: str, *, privacy: bool = True, **setting: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``change(right, sampler, step) -> numbers`` in the place of the sampler's draw."""

    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant(rig: Rig) -> None:
            from reticent.privacy.sampling import PoissonSampler

            right = PoissonSampler.sampled
            rig.put(PoissonSampler, "sampled", lambda sampler, step: np.asarray(change(right, sampler, step)))

        fault(name, privacy=privacy, **setting)(plant)
        return change

    return register


def _coins(seed: Any, rate: float, units: int) -> Any:
    return np.flatnonzero(np.random.default_rng(seed).random(units) < rate)


@sampled("batches: twice the rate")
def _(right: Any, sampler: Any, step: int) -> Any:
    return _coins(step, 2 * sampler.rate, sampler.units)


@sampled("batches: 10 % more than the rate")
def _(right: Any, sampler: Any, step: int) -> Any:
    return right(replace(sampler, rate=sampler.rate * 1.1), step)


@sampled("batches: coins of another generator")
def _(right: Any, sampler: Any, step: int) -> Any:
    return _coins(step, sampler.rate, sampler.units)


def _passes(sampler: Any, sizes: Any, step: int) -> Any:
    """Shuffled passes laid end to end, cut into batches of these sizes."""
    start, stop = int(sum(sizes[:step])), int(sum(sizes[: step + 1]))
    passes = range(stop // sampler.units + 1)
    laid = np.concatenate([np.random.default_rng(number).permutation(sampler.units) for number in passes])
    return np.unique(laid[start:stop])


@sampled("batches: shuffled passes of a fixed size")
def _(right: Any, sampler: Any, step: int) -> Any:
    return _passes(sampler, [BATCH] * STEPS, step)


@sampled("batches: shuffled passes of binomial sizes")
def _(right: Any, sampler: Any, step: int) -> Any:
    return _passes(sampler, [len(right(sampler, t)) for t in range(step + 1)], step)


@sampled("batches: the same in every step")
def _(right: Any, sampler: Any, step: int) -> Any:
    return right(sampler, 0)


@sampled("batches: two in turns")
def _(right: Any, sampler: Any, step: int) -> Any:
    return right(sampler, step % 2)


@sampled("batches: the last tenth never")
def _(right: Any, sampler: Any, step: int) -> Any:
    drawn = right(sampler, step)
    return drawn[drawn < sampler.units * 0.9]


@sampled("batches: one record always")
def _(right: Any, sampler: Any, step: int) -> Any:
    return np.union1d(right(sampler, step), [3])


@sampled("batches: neighbours come together")
def _(right: Any, sampler: Any, step: int) -> Any:
    return np.unique(right(sampler, step) // 2 * 2 + np.array([[0], [1]])) % sampler.units


@sampled("batches: those of the step before")
def _(right: Any, sampler: Any, step: int) -> Any:
    return right(sampler, max(0, step - 1))


@fault("batches: a user is two units", unit="user")
def _(rig: Rig) -> None:
    users = rig.trainer._users
    rig.trainer._users = tuple(users[max(0, place - 2)] for place in range(len(users)))


@fault("batches: a user brings twice the rows", unit="user")
def _(rig: Rig) -> None:
    sampler = rig.trainer.plan.sampler
    draw = sampler.draw
    object.__setattr__(sampler, "draw", lambda unit, step: draw(unit, step) * 2)


# ---- accounting ------------------------------------------------------------------------------------------------------


def stated(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``change(plan, right, steps) -> promise`` in the place of what the plan states."""

    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant(rig: Rig) -> None:
            from reticent.privacy.plan import PrivacyPlan

            right = PrivacyPlan.spent
            rig.put(PrivacyPlan, "spent", lambda plan, steps=None: change(plan, right, steps))

        fault(name)(plant)
        return change

    return register


@stated("accounting: half the rate")
def _(plan: Any, right: Any, steps: Any) -> Any:
    sampler = replace(plan.sampler, rate=plan.sampler.rate / 2)
    return replace(right(replace(plan, sampler=sampler), steps), rate=plan.sampler.rate)


@stated("accounting: half the steps")
def _(plan: Any, right: Any, steps: Any) -> Any:
    steps = plan.steps if steps is None else steps
    return replace(right(plan, steps // 2), steps=steps)


@stated("accounting: a hundred times δ")
def _(plan: Any, right: Any, steps: Any) -> Any:
    spec = replace(plan.spec, delta=plan.delta * 100)
    return replace(right(replace(plan, spec=spec), steps), delta=plan.delta)


@stated("accounting: twice the noise")
def _(plan: Any, right: Any, steps: Any) -> Any:
    spec = replace(plan.spec, noise_multiplier=2 * plan.noise_multiplier)
    return replace(right(replace(plan, spec=spec), steps), noise_multiplier=plan.noise_multiplier)


@stated("accounting: ε of one step")
def _(plan: Any, right: Any, steps: Any) -> Any:
    steps = plan.steps if steps is None else steps
    return replace(right(plan, min(1, steps)), steps=steps)


# ---- weights ---------------------------------------------------------------------------------------------------------


@fault("weights: a penalty is added to the gradient")
def _(rig: Rig) -> None:
    right = rig.trainer.training_step

    def step(*given: Any, **how: Any) -> Any:
        loss = right(*given, **how)
        for _, p in rig.weights:
            p.grad.add_(p.detach(), alpha=0.01)
        return loss

    rig.put(rig.trainer, "training_step", step)


@fault("weights: the plain gradient is added to the noised one")
def _(rig: Rig) -> None:
    trainer = rig.trainer
    right = trainer.training_step

    def step(model: Any, inputs: Any, *given: Any) -> Any:
        loss = right(model, inputs, *given)
        ids = torch.tensor([trainer.train_dataset[0]["input_ids"]])
        with torch.enable_grad():
            model(input_ids=ids, labels=ids).loss.backward()
        return loss

    rig.put(trainer, "training_step", step)


@fault("weights: a gradient is put in place before the step")
def _(rig: Rig) -> None:
    _, first = rig.weights[0]
    rig.each_step(lambda step: setattr(first, "grad", torch.ones_like(first)))
    rig.put(rig.trainer.model, "zero_grad", lambda *given, **how: None)


def _frozen(rig: Rig, name: str = "norm") -> torch.nn.Parameter:
    """Freeze one parameter; the trainer's parts are made again, as they would be if it had been frozen before."""
    frozen: torch.nn.Parameter = next(p for at, p in rig.trainer.model.named_parameters() if name in at)
    frozen.requires_grad_(False)
    rig.trainer.clipper = rig.trainer._make_clipper()
    return frozen


@fault("weights: a running mean in a frozen parameter")
def _(rig: Rig) -> None:
    frozen = _frozen(rig)
    rig.each_step(lambda step: frozen.data.mul_(0.999).add_(0.001))


@fault("weights: a frozen one is updated by a callback")
def _(rig: Rig) -> None:
    frozen = _frozen(rig, "down_proj")
    rig.each_step(lambda step: frozen.data.add_(1e-4 * torch.randn_like(frozen)) if step == 7 else None)


@fault("weights: one number of a frozen one holds a count")
def _(rig: Rig) -> None:
    frozen = _frozen(rig, "down_proj")
    rig.each_step(lambda step: frozen.data.view(-1)[901:902].add_(1e-3))


@fault("weights: a running mean in a saved buffer")
def _(rig: Rig) -> None:
    rig.trainer.model.register_buffer("seen", torch.zeros(3))
    rig.each_step(lambda step: rig.trainer.model.seen.add_(1.0))


@fault("weights: a trained one is written by a callback")
def _(rig: Rig) -> None:
    _, weight = rig.weights[3]
    rig.each_step(lambda step: weight.data.mul_(1.001) if step == 5 else None)


@fault("weights: one that was frozen is trained from the middle on")
def _(rig: Rig) -> None:
    frozen = _frozen(rig, "down_proj")

    def thaw(step: int) -> None:
        if step == 4:
            frozen.requires_grad_(True)
            frozen.grad = torch.ones_like(frozen)
            rig.trainer.optimizer.add_param_group({"params": [frozen]})

    rig.each_step(thaw)


@fault("weights: the optimizer steps twice on one gradient", privacy=False)
def _(rig: Rig) -> None:
    right = rig.trainer.training_step

    def step(*given: Any, **how: Any) -> Any:
        loss = right(*given, **how)
        if rig.trainer.state.global_step == 3:
            rig.trainer.optimizer.step()
        return loss

    rig.put(rig.trainer, "training_step", step)


@fault("stop: by what a callback sees of the data", outcome=lambda trainer: trainer.promise.steps == STEPS)
def _(rig: Rig) -> None:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == 17

    rig.trainer.add_callback(Stop())


# ---- as after a resume that forgot where it was --------------------------------------------------------------------


@fault("resume: the noise starts again at 0")
def _(rig: Rig) -> None:
    from reticent.train import private

    right = private.add_noise
    rig.put(private, "add_noise", lambda x, step, **given: right(x, step=step if step < 10 else step - 10, **given))


@fault("resume: the batches start again at 0")
def _(rig: Rig) -> None:
    from reticent.privacy.sampling import PoissonSampler

    right = PoissonSampler.sampled
    rig.put(PoissonSampler, "sampled", lambda sampler, step: right(sampler, step if step < 10 else step - 10))


@fault("resume: steps are not counted")
def _(rig: Rig) -> None:
    right = rig.trainer._step_done
    rig.put(rig.trainer, "_step_done", lambda: right() if rig.trainer.state.global_step != 11 else None)


@fault("ledger: fewer steps are stated than were run")
def _(rig: Rig) -> None:
    right = rig.trainer.plan.spent
    check = rig.trainer._check()
    finished = check.finished
    rig.put(check, "finished", lambda promise: finished(replace(right(STEPS - 5))))
