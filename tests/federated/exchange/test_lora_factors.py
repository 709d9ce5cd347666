# SPDX-License-Identifier: Apache-2.0
"""Factors of LoRA: stacked they give the mean of products, averaged apart they do not, and by how much."""

from __future__ import annotations

import torch

from reticent.federated.exchange.arrays import put_into, taken_from
from reticent.federated.exchange.lora_factors_mean import ProductError, freeze_first_factors, is_first_factor
from reticent.federated.exchange.stacked import all_rounds, begin_factors, by_round, merge, stack, with_round
from reticent.models.tuning.method import TUNINGS
from reticent.testing.tiny import tiny_model

A, B = "q.lora_A.default.weight", "q.lora_B.default.weight"
START = {A: torch.randn(2, 6, generator=torch.Generator().manual_seed(0)), B: torch.zeros(5, 2)}


def updates(count: int, *, frozen: bool = False) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    drawn = [{name: torch.randn(x.shape, generator=generator) for name, x in START.items()} for _ in range(count)]
    return [one | {A: torch.zeros(2, 6)} for one in drawn] if frozen else drawn


def mean_of_products(given: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    return torch.stack([(START[B] + one[B]) @ (START[A] + one[A]) for one in given]).mean(0)


def test_stacked_factors_are_the_mean_of_products() -> None:
    given = updates(4)
    stacked = stack(START, given, 4)
    assert stacked[A].shape == (8, 6)
    torch.testing.assert_close(stacked[B] @ stacked[A], mean_of_products(given))


def test_the_error_of_averaging_apart_is_measured() -> None:
    given = updates(4)
    error = ProductError(START)
    for one in given:
        error.add(one)
    mean = {name: START[name] + torch.stack([one[name] for one in given]).mean(0) for name in START}
    exact = mean_of_products(given)
    naive = float((mean[B] @ mean[A] - exact).norm() / exact.norm())
    measured = error.relative()
    assert measured is not None
    assert abs(measured - naive) < 1e-6
    assert naive > 0.1


def test_with_a_frozen_the_average_is_exact() -> None:
    error = ProductError(START)
    for one in updates(4, frozen=True):
        error.add(one)
    measured = error.relative()
    assert measured is not None
    assert measured < 1e-12


def test_ffa_leaves_the_first_factors_out_of_the_exchange() -> None:
    model = TUNINGS.get("lora")(tiny_model(), r=2, alpha=4.0)
    whole = taken_from(model)
    freeze_first_factors(model)
    half = taken_from(model)
    assert not any(is_first_factor(name) for name in half)
    assert len(half) * 2 == len(whole)


def test_merged_products_answer_as_the_adapter_does() -> None:
    torch.manual_seed(0)
    model = TUNINGS.get("lora")(tiny_model(), r=2, alpha=4.0).eval()
    ids = torch.arange(10)[None]
    factors = begin_factors(taken_from(model), 0, 1)
    factors = {name: torch.randn_like(x) if "lora_B" in name else x for name, x in factors.items()}
    put_into(model, factors)
    with torch.no_grad():
        expected = model(ids).logits
        put_into(model, {name: torch.zeros_like(x) for name, x in factors.items()})
        merge(model, factors)
        torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-5)


def test_stacks_of_all_rounds_come_back_in_order() -> None:
    rounds = [stack(START, updates(count), count) for count in (2, 3)]
    stacks = with_round(with_round({}, 1, rounds[0]), 2, rounds[1])
    assert all(torch.equal(one[A], two[A]) for one, two in zip(by_round(stacks), rounds, strict=True))
    joined = all_rounds(stacks)
    torch.testing.assert_close(joined[B] @ joined[A], sum(factors[B] @ factors[A] for factors in rounds))
