# SPDX-License-Identifier: Apache-2.0
"""Batches that are not drawn as is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from reticent.testing.dp_faults.fault import BATCH, STEPS, TrainerUnderTest, fault


def sampled(name: str, *, privacy: bool = True, **setting: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``change(right, sampler, step) -> numbers`` in the place of the sampler's draw."""

    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant(rig: TrainerUnderTest) -> None:
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
def _(rig: TrainerUnderTest) -> None:
    users = rig.trainer._users
    rig.trainer._users = tuple(users[max(0, place - 2)] for place in range(len(users)))


@fault("batches: a user brings twice the rows", unit="user")
def _(rig: TrainerUnderTest) -> None:
    sampler = rig.trainer.plan.sampler
    draw = sampler.draw
    object.__setattr__(sampler, "draw", lambda unit, step: draw(unit, step) * 2)
