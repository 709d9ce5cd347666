# SPDX-License-Identifier: Apache-2.0
"""An ε that is too small for what was run, and steps that are lost, as after a resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reticent.testing.dp_faults.fault import STEPS, TrainerUnderTest, fault


def stated(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``change(plan, right, steps) -> promise`` in the place of what the plan states."""

    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        def plant(rig: TrainerUnderTest) -> None:
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


@fault("resume: the noise starts again at 0")
def _(rig: TrainerUnderTest) -> None:
    rig.put_noise(lambda right, x, step, **given: right(x, step=step if step < 10 else step - 10, **given))


@fault("resume: the batches start again at 0")
def _(rig: TrainerUnderTest) -> None:
    from reticent.privacy.sampling import PoissonSampler

    right = PoissonSampler.sampled
    rig.put(PoissonSampler, "sampled", lambda sampler, step: right(sampler, step if step < 10 else step - 10))


@fault("resume: steps are not counted")
def _(rig: TrainerUnderTest) -> None:
    right = rig.trainer._step_done
    rig.put(rig.trainer, "_step_done", lambda: right() if rig.trainer.state.global_step != 11 else None)


@fault("ledger: fewer steps are stated than were run")
def _(rig: TrainerUnderTest) -> None:
    right = rig.trainer.plan.spent
    check = rig.trainer._check()
    finished = check.finished
    rig.put(check, "finished", lambda promise: finished(replace(right(STEPS - 5))))
