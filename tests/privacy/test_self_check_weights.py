# SPDX-License-Identifier: Apache-2.0
"""Weights that change otherwise than by noised gradients, a model that is not what was trained, an ε that is too small:
each is stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from reticent.models.tuning.method import TUNINGS
from reticent.privacy.self_check import GuaranteeViolated, SelfCheck
from reticent.testing.tiny import tiny_model


def small():
    """A tiny model of which little is trained, so that steps take milliseconds."""
    return TUNINGS.get("lora")(tiny_model())


@pytest.fixture
def right(engine):
    return lambda **plan: engine.Engine(engine.a_plan(**plan), small())


# ---- broken training, saving, accounting -----------------------------------------------------------------------------


def test_weights_that_do_not_move_are_found(right):
    one = right(steps=25)
    one.optimizer.param_groups[0]["lr"] = 0.0
    with pytest.raises(GuaranteeViolated, match="did not change in 20 steps"):
        one.run()


def test_one_weight_that_does_not_move_is_found_at_the_end(right):
    one = right(steps=3)
    frozen = next(iter(one.names.values()))
    one.optimizer = torch.optim.SGD([p for p in one.names.values() if p is not frozen], lr=1e-3)
    one.run()
    with pytest.raises(GuaranteeViolated, match=r"lora_A.* did not change in 3 steps"):
        one.check.finished(one.plan.spent())


def test_a_parameter_without_gradient_is_found(engine, right):
    one = right(steps=25)
    victim = list(one.names.values())[2]
    one.probe = lambda units: True
    one.clipper = engine.Wrapped(one.clipper, lambda sums: sums[victim].zero_())
    with pytest.raises(GuaranteeViolated, match=r"per-unit gradients: .*lora_A.* had none in 20 steps"):
        one.run()


def test_the_ledger_must_match(right):
    one = right(steps=4)
    check = one.run(3)
    assert check.finished(one.plan.spent(3))[-1].measured == "3"
    assert check.finished(one.plan.spent(4))  # an early end may be chosen by the data: all of the plan is stated
    for wrong in (one.plan.spent(2), replace(one.plan.spent(3), noise_multiplier=2.0)):
        with pytest.raises(GuaranteeViolated, match="the ledger matches the run"):
            check.finished(wrong)


def test_a_buffer_that_learns_is_found(engine):
    model = small()
    model.register_buffer("mean_of_the_data", torch.zeros(3))
    one = engine.Engine(engine.a_plan(steps=2), model)
    one.between = lambda step: one.model.mean_of_the_data.add_(1)
    with pytest.raises(GuaranteeViolated, match="mean_of_the_data changed"):
        one.run()


def frozen(one):
    return next(p for p in one.model.parameters() if not p.requires_grad and p.numel() > 1000)


@pytest.mark.parametrize("where", ["all", "one element"])
def test_a_frozen_weight_that_changes_is_found(right, where):
    """All of it in the next step; one element of thousands once all bits are summed."""
    one = right(steps=3)
    weight = frozen(one)
    target = weight.data if where == "all" else weight.data.view(-1)[700:701]
    one.between = lambda step: target.add_(1e-3)
    with pytest.raises(GuaranteeViolated, match="though nothing may change it"):
        one.run()
        one.check.finished(one.plan.spent())
    assert one.check.done == 1 or where == "one element"


def test_a_trained_weight_that_changes_outside_of_the_optimizer_is_found(right):
    one = right(steps=3)
    weight = list(one.names.values())[2]
    one.between = lambda step: weight.data.mul_(1.01)
    with pytest.raises(GuaranteeViolated, match="changed outside of the optimizer's step"):
        one.run()
    assert one.check.done == 1


def test_what_is_added_to_a_gradient_after_the_noise_is_found(right):
    one = right()
    hand_over = one.hand_over

    def penalty(sums):
        hand_over(sums)
        for p in one.names.values():
            p.grad += 0.01 * p.detach()

    one.hand_over = penalty
    with pytest.raises(GuaranteeViolated, match="is not what was noised"):
        one.run()


def test_a_gradient_without_the_noise_is_found(right):
    one = right()
    sums_of, clean = one.sums, {}

    def sums(step, units):
        found, contributed = sums_of(step, units)
        clean.update({p: total.clone() / 8 for p, total in found.items()})
        return found, contributed

    def hand_over(noised):
        for p, gradient in clean.items():
            p.grad = gradient
        one.check.given()

    one.sums, one.hand_over = sums, hand_over
    with pytest.raises(GuaranteeViolated, match="is not what was noised"):
        one.run()


def test_a_step_that_the_optimizer_leaves_out_is_found(right):
    one = right()
    one.update = lambda: one.model.zero_grad(set_to_none=True)
    with pytest.raises(GuaranteeViolated, match="the optimizer made no step"):
        one.run()


def test_a_weight_that_is_not_trained_and_has_a_gradient_is_found(right):
    one = right()
    weight = frozen(one)
    one.optimizer.add_param_group({"params": [weight]})
    hand_over = one.hand_over
    one.hand_over = lambda sums: (hand_over(sums), setattr(weight, "grad", torch.ones_like(weight)))
    with pytest.raises(GuaranteeViolated, match="a weight that is not trained"):
        one.run()


def test_an_epsilon_that_is_too_small_is_found_before_the_first_step(engine):
    """Accounted for half the rate, for half the steps, at a hundred times δ."""
    plan = engine.a_plan(steps=40)
    spent = plan.spent()
    for wrong in (
        engine.a_plan(steps=40, batch=4).spent().epsilon,
        plan.spent(20).epsilon,
        replace(plan, spec=replace(plan.spec, delta=1e-2)).spent().epsilon,
    ):
        check = SelfCheck(plan, small())
        with pytest.raises(GuaranteeViolated, match="a second count has"):
            check._recount(replace(spent, epsilon=wrong))


def test_a_unit_that_is_added_twice_is_found(right):
    one = right()
    clip = one.clip
    one.probe = lambda units: True
    one.clip = lambda units, stretches=None: torch.cat([clip(units, stretches), clip(units, stretches)])
    with pytest.raises(GuaranteeViolated, match="norms were taken of"):
        one.run()


@pytest.mark.parametrize("tuning", ["full", "lora", "adapter", "prompt", "prefix"])
def test_what_is_saved_is_what_was_trained(engine, tuning, tmp_path):
    model = TUNINGS.get(tuning)(tiny_model())
    check = SelfCheck(engine.a_plan(), model)
    before = state_of(model, tuning)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p))
    save_file(state_of(model, tuning), tmp_path / "model.safetensors")
    check.saved(tmp_path)
    assert check.reread == len(check.names)
    save_file(before, tmp_path / "model.safetensors")
    with pytest.raises(GuaranteeViolated, match="are not in"):
        check.saved(tmp_path)


def state_of(model, tuning):
    peft = tuning in ("lora", "prompt", "prefix")
    state = get_peft_model_state_dict(model, save_embedding_layers=False) if peft else model.state_dict()
    return {name: value.detach().clone() for name, value in state.items() if name != "lm_head.weight"}


def test_a_broken_promise_says_what_it_means():
    error = GuaranteeViolated("noise is added", "none was", "There is no privacy.")
    assert error.exit_code == 1
    assert str(error) == "Broken promise: noise is added: none was. There is no privacy."
