# SPDX-License-Identifier: Apache-2.0
"""Terms for what is to be retained, against loops over tokens; their sum; the weight that is learned."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from reticent.testing.unlearners import planted_rows
from reticent.train.unlearning.method import RETAIN_NEEDS
from reticent.train.unlearning.methods.pdu import dual_update
from reticent.train.unlearning.retain import RETAIN_TERMS, retain_hidden, retain_kl, retain_nll, total_loss
from reticent.train.unlearning.rows import Rows

ALL = ("reference_logits", "hidden", "reference_hidden")


def softmax(logits: torch.Tensor) -> list[float]:
    weights = [math.exp(z) for z in logits.tolist()]
    return [weight / sum(weights) for weight in weights]


def positions(rows: Rows, row: int) -> list[int]:
    return [t for t in range(rows.gold.shape[1]) if rows.trained[row, t]]


@pytest.mark.parametrize("seed", [0, 1])
def test_terms_are_those_of_loops(seed: int) -> None:
    rows = planted_rows(*ALL, seed=seed)
    nll, kl, distances = [], [], []
    assert rows.reference_logits is not None
    assert rows.hidden is not None
    assert rows.reference_hidden is not None
    for b in range(len(rows.gold)):
        squares = []
        for t in positions(rows, b):
            p, q = softmax(rows.logits[b, t]), softmax(rows.reference_logits[b, t])
            nll.append(-math.log(p[int(rows.gold[b, t])]))
            kl.append(sum(was * math.log(was / now) for was, now in zip(q, p, strict=True)))
            pair = zip(rows.hidden[b, t].tolist(), rows.reference_hidden[b, t].tolist(), strict=True)
            squares.append(sum((now - was) ** 2 for now, was in pair) / rows.hidden.shape[-1])
        distances.append(sum(squares) / len(squares))
    assert retain_nll(rows).item() == pytest.approx(sum(nll) / len(nll), rel=1e-5)
    assert retain_kl(rows).item() == pytest.approx(sum(kl) / len(kl), rel=1e-4)
    assert retain_hidden(rows).item() == pytest.approx(sum(distances) / len(distances), rel=1e-5)


def test_kl_is_from_before_to_after() -> None:
    """The other way round it is another number; and it is 0 only where nothing has changed."""
    gold, trained = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool)
    before, after = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 0.0]]])
    rows = Rows(logits=after, gold=gold, trained=trained, reference_logits=before)
    p, q = softmax(after[0, 0]), softmax(before[0, 0])
    assert retain_kl(rows).item() == pytest.approx(
        sum(b * math.log(b / a) for b, a in zip(q, p, strict=True)), rel=1e-5
    )
    turned = replace(rows, logits=before, reference_logits=after)
    assert abs(retain_kl(turned).item() - retain_kl(rows).item()) > 0.1
    assert retain_kl(replace(rows, logits=before)).item() == 0


@pytest.mark.parametrize("name", ["nll", "kl", "hidden"])
def test_terms_read_answers_only_and_survive_rows_without_any(name: str) -> None:
    term = RETAIN_TERMS[name]  # type: ignore[index]
    assert term is not None
    rows = planted_rows(*ALL)
    assert term.needs == RETAIN_NEEDS[name]  # type: ignore[index]
    out = ~rows.trained[..., None]
    odd = {need: getattr(rows, need).masked_fill(out, 9.0) for need in (*ALL, "logits")}
    assert torch.equal(term(replace(rows, **odd)), term(rows))
    mute = replace(rows, trained=torch.zeros_like(rows.trained), logits=rows.logits.clone().requires_grad_())
    assert term(mute).item() == 0
    assert term.count(mute) == 0
    if name != "hidden":
        (grad,) = torch.autograd.grad(term(mute), mute.logits)
        assert not bool(grad.any())


@pytest.mark.parametrize("name", ["nll", "kl", "hidden"])
def test_micro_batches_that_are_weighed_change_nothing(name: str) -> None:
    term = RETAIN_TERMS[name]  # type: ignore[index]
    assert term is not None
    rows = planted_rows(*ALL)

    def part(of: slice) -> Rows:
        fields = ("logits", "gold", "trained", *ALL)
        return Rows(**{field: getattr(rows, field)[of] for field in fields})

    parts = [part(slice(0, 1)), part(slice(1, 5))]
    together = sum(term.count(piece) * term(piece).item() for piece in parts) / sum(map(term.count, parts))
    assert term(rows).item() == pytest.approx(together, rel=1e-5)


def test_there_is_a_term_for_each_name() -> None:
    assert set(RETAIN_TERMS) == set(RETAIN_NEEDS)
    assert RETAIN_TERMS["none"] is None


def test_the_sum_of_both_terms() -> None:
    forget, retain = torch.tensor(3.0, requires_grad=True), torch.tensor(5.0, requires_grad=True)
    total = total_loss(forget, retain, forget_weight=0.125, retain_weight=2.0)
    assert total.item() == 0.375 + 10
    assert [grad.item() for grad in torch.autograd.grad(total, [forget, retain])] == [0.125, 2.0]
    assert total_loss(forget, None, forget_weight=2.0, retain_weight=1.0).item() == 6
    nothing = total_loss(forget, torch.tensor(math.nan), forget_weight=0.0, retain_weight=0.0)
    assert nothing.item() == 0
    assert total_loss(forget, torch.tensor(math.nan), forget_weight=1.0, retain_weight=0.0).item() == 3


def test_the_dual_weight_rises_above_the_limit_falls_below_it_and_stays_at_zero() -> None:
    """λ ← max(0, λ + η(loss - ε)), step by step."""
    weight = 50.0
    for loss, expected in ((1.3, 51.0), (0.3, 51.0), (0.2, 50.9), (0.0, 50.6)):
        weight = dual_update(weight, loss, limit=0.3, step=1.0)
        assert weight == pytest.approx(expected)
    assert dual_update(0.2, 0.0, limit=0.3, step=5.0) == 0
    assert dual_update(0.0, 0.0, limit=0.3, step=5.0) == 0
