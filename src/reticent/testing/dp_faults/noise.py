# SPDX-License-Identifier: Apache-2.0
"""Noise that is not what was promised."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from reticent.testing.dp_faults.fault import CLIP_NORM, TrainerUnderTest, fault


def noise(name: str, *, privacy: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``change(right, x, step=, index=, std=, scale=, key=)`` in the place of ``add_noise``."""

    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        fault(name, privacy=privacy)(lambda rig: rig.put_noise(change))
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
    second_half = flat[x.numel() // 2 :].clone()
    seen = right(x, scale=scale, **given)
    flat[x.numel() // 2 :] = second_half * scale
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
def _(rig: TrainerUnderTest) -> None:
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
def _(rig: TrainerUnderTest) -> None:
    clipper = rig.trainer.clipper
    take = clipper.take

    def noisy() -> Any:
        sums = take()
        for total in sums.values():
            total.add_(torch.randn_like(total) * CLIP_NORM)
        return sums

    rig.put(clipper, "take", noisy)
    rig.put_noise(lambda right, x, **given: right(x, **given | {"std": 0.0}))
