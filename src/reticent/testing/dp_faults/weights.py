# SPDX-License-Identifier: Apache-2.0
"""Faults by which something besides the noised sum reaches the weights."""

from __future__ import annotations

from typing import Any

import torch

from reticent.testing.dp_faults.fault import STEPS, TrainerUnderTest, fault


@fault("weights: a penalty is added to the gradient")
def _(rig: TrainerUnderTest) -> None:
    right = rig.trainer.training_step

    def step(*given: Any, **how: Any) -> Any:
        loss = right(*given, **how)
        for _, p in rig.weights:
            assert p.grad is not None
            p.grad.add_(p.detach(), alpha=0.01)
        return loss

    rig.put(rig.trainer, "training_step", step)


@fault("weights: the plain gradient is added to the noised one")
def _(rig: TrainerUnderTest) -> None:
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
def _(rig: TrainerUnderTest) -> None:
    _, first = rig.weights[0]
    rig.each_step(lambda step: setattr(first, "grad", torch.ones_like(first)))
    rig.put(rig.trainer.model, "zero_grad", lambda *given, **how: None)


def _frozen(rig: TrainerUnderTest, name: str = "norm") -> torch.nn.Parameter:
    """Freeze one parameter; the trainer's parts are made again, as they would be if it had been frozen before."""
    frozen: torch.nn.Parameter = next(p for at, p in rig.trainer.model.named_parameters() if name in at)
    frozen.requires_grad_(False)
    rig.trainer.clipper = rig.trainer._make_clipper()
    return frozen


@fault("weights: a running mean in a frozen parameter")
def _(rig: TrainerUnderTest) -> None:
    frozen = _frozen(rig)
    rig.each_step(lambda step: frozen.data.mul_(0.999).add_(0.001))


@fault("weights: a frozen one is updated by a callback")
def _(rig: TrainerUnderTest) -> None:
    frozen = _frozen(rig, "down_proj")
    rig.each_step(lambda step: frozen.data.add_(1e-4 * torch.randn_like(frozen)) if step == 7 else None)


@fault("weights: one number of a frozen one holds a count")
def _(rig: TrainerUnderTest) -> None:
    frozen = _frozen(rig, "down_proj")
    rig.each_step(lambda step: frozen.data.view(-1)[901:902].add_(1e-3))


@fault("weights: a running mean in a saved buffer")
def _(rig: TrainerUnderTest) -> None:
    rig.trainer.model.register_buffer("seen", torch.zeros(3))
    rig.each_step(lambda step: rig.trainer.model.seen.add_(1.0))


@fault("weights: a trained one is written by a callback")
def _(rig: TrainerUnderTest) -> None:
    _, weight = rig.weights[3]
    rig.each_step(lambda step: weight.data.mul_(1.001) if step == 5 else None)


@fault("weights: one that was frozen is trained from the middle on")
def _(rig: TrainerUnderTest) -> None:
    frozen = _frozen(rig, "down_proj")

    def thaw(step: int) -> None:
        if step == 4:
            frozen.requires_grad_(True)
            frozen.grad = torch.ones_like(frozen)
            rig.trainer.optimizer.add_param_group({"params": [frozen]})

    rig.each_step(thaw)


@fault("weights: the optimizer steps twice on one gradient", privacy=False)
def _(rig: TrainerUnderTest) -> None:
    right = rig.trainer.training_step

    def step(*given: Any, **how: Any) -> Any:
        loss = right(*given, **how)
        if rig.trainer.state.global_step == 3:
            rig.trainer.optimizer.step()
        return loss

    rig.put(rig.trainer, "training_step", step)


@fault("stop: by what a callback sees of the data", outcome=lambda trainer: trainer.promise.steps == STEPS)
def _(rig: TrainerUnderTest) -> None:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == 17

    rig.trainer.add_callback(Stop())
