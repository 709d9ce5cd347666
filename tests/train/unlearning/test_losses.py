# SPDX-License-Identifier: Apache-2.0
"""Every loss equals its worked example, and a loop over tokens that is written from the formula alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from reticent.testing.unlearners import planted_rows
from reticent.train.unlearning.method import UNLEARNERS, method_names
from reticent.train.unlearning.methods.rmu import control_direction
from reticent.train.unlearning.rows import Rows

# ---- worked examples ------------------------------------------------------------------------------------------------


def rows(probabilities: list[list[float]], **given: Any) -> Rows:
    """One row whose true token is always the first, with these probabilities of the vocabulary."""
    logits = torch.tensor([probabilities]).log()
    return raw(logits, **given)


def raw(logits: torch.Tensor, **given: Any) -> Rows:
    shape = logits.shape[:2]
    return Rows(
        logits=logits,
        gold=torch.zeros(shape, dtype=torch.int64),
        trained=torch.ones(shape, dtype=torch.bool),
        **given,
    )


def loss(name: str, forget: Rows, **params: Any) -> float:
    return UNLEARNERS.get(name)(forget, **params).item()


HALF = [[0.5, 0.5]]
Z = torch.tensor([[[2.0, 1.0, 0.0, -1.0]]])


@pytest.mark.parametrize(("ratio", "golden"), [(0, 13.862944), (-10, 6.265234), (10, 26.265234)])
def test_npo(ratio: float, golden: float) -> None:
    forget = rows(HALF, reference_logp=torch.tensor([math.log(0.5) - ratio]))
    assert loss("npo", forget) == pytest.approx(golden, rel=1e-6)
    assert loss("token_local", forget) == pytest.approx(golden, rel=1e-6)


@pytest.mark.parametrize(("nll", "golden"), [(0.5, 0.0445362), (2, 5.4845e-5)])
def test_simnpo(nll: float, golden: float) -> None:
    p = math.exp(-nll)
    assert loss("simnpo", rows([[p, 1 - p]] * 3)) == pytest.approx(golden, rel=2e-5)


def test_simnpo_by_its_margin() -> None:
    """A loss of 2.5 above a margin of 2 counts as one of 0.5 without."""
    p = math.exp(-2.5)
    assert loss("simnpo", rows([[p, 1 - p]] * 3), delta=2.0) == pytest.approx(0.0445362, rel=2e-5)


@pytest.mark.parametrize("name", ["dpo", "altpo"])
@pytest.mark.parametrize(("gain", "golden"), [(5, 9.481540), (0, 13.862944)])
def test_dpo(name: str, gain: float, golden: float) -> None:
    """Split between the two texts in any way."""
    for share in (0.0, 0.4, 1.0):
        better = rows(HALF, reference_logp=torch.tensor([math.log(0.5) - gain * share]))
        forget = rows(HALF, reference_logp=torch.tensor([math.log(0.5) + gain * (1 - share)]), alternative=better)
        assert loss(name, forget) == pytest.approx(golden, rel=1e-6)


def test_weighted_ascent() -> None:
    forget = rows([[0.8, 0.2], [0.1, 0.9]])
    assert loss("wga", forget) == pytest.approx(-0.204387, rel=1e-5)
    assert loss("satimp", forget) == pytest.approx(-0.00732233, rel=1e-5)
    plain = (math.log(0.8) + math.log(0.1)) / 2
    for name, params in (
        ("wga", {"beta": 0}),
        ("satimp", {"beta1": 0, "beta2": 0}),
        ("gradient_ascent", {}),
        ("gradient_difference", {}),
        ("kl_ascent", {}),
        ("repselect", {}),
    ):
        assert loss(name, forget, **params) == pytest.approx(plain, rel=1e-6)


def test_loku() -> None:
    """The authors' two tokens at p = .8 with a rival at .1, and p = .1 with a rival at .6."""
    assert loss("loku", rows([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3]])) == pytest.approx(1.1, rel=1e-6)


def test_loku_takes_logits_for_logits() -> None:
    """Those that all lie in [0, 1] too, where the authors' code takes them for probabilities."""
    logits = torch.tensor([[[0.2, 0.1]]])
    p = 1 / (1 + math.exp(-0.1))
    assert loss("loku", raw(logits)) == pytest.approx(1 + p - (1 - p), rel=1e-6)


def test_undial() -> None:
    assert loss("undial", raw(Z, reference_logits=Z)) == pytest.approx(1.864862, rel=1e-6)


def test_ce_u_and_its_gradient() -> None:
    logits = Z.clone().requires_grad_()
    value = UNLEARNERS.get("ce_u")(raw(logits), ignored=0)
    value.backward()
    assert value.item() == pytest.approx(1.864979, rel=1e-6)
    assert logits.grad is not None
    golden = torch.tensor([0.643914, -0.428358, -0.157584, -0.057972])
    torch.testing.assert_close(logits.grad[0, 0], golden, rtol=1e-5, atol=1e-6)


def test_pdu() -> None:
    assert loss("pdu", raw(Z)) == pytest.approx(2.25, rel=1e-6)


def test_rmu() -> None:
    """Hidden states at 0 lie c² / d from the direction; the direction is positive, of length 1, and of the seed."""
    forget = raw(Z, hidden=torch.zeros(1, 1, 16))
    assert loss("rmu", forget) == pytest.approx(4 / 16, rel=1e-5)
    assert loss("rmu", forget, coefficient=20.0) == pytest.approx(400 / 16, rel=1e-5)
    u = control_direction(4096, seed=3)
    assert bool((u >= 0).all())
    assert u.mean().item() * 64 == pytest.approx(math.sqrt(3) / 2, rel=0.02)  # of a Gaussian direction it is 0
    assert not torch.equal(u, control_direction(4096, seed=4))
    shifted = raw(Z, hidden=torch.arange(16.0).reshape(1, 1, 16))
    assert loss("rmu", shifted, seed=1) != loss("rmu", shifted, seed=2)


# ---- loops ----------------------------------------------------------------------------------------------------------


def softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(z - top) for z in logits]
    return [weight / sum(weights) for weight in weights]


def tokens_of(forget: Rows) -> list[list[tuple[list[float], int, int]]]:
    """For each row its trained tokens, each as logits, true token, and position."""
    return [
        [
            (forget.logits[b, t].tolist(), int(forget.gold[b, t]), t)
            for t in range(forget.gold.shape[1])
            if forget.trained[b, t]
        ]
        for b in range(len(forget.gold))
    ]


def logp_of(row: list[tuple[list[float], int, int]]) -> float:
    return sum(math.log(softmax(logits)[y]) for logits, y, _ in row)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def each_token(value: Callable[[list[float], int], float], *, skip: int = 0) -> Callable[[Rows], float]:
    return lambda forget: mean([value(z, y) for row in tokens_of(forget) for z, y, _ in row[skip:]])


def sigmoid_loss(beta: float, argument: float) -> float:
    return 2 / beta * math.log1p(math.exp(-beta * argument))


def ascent(z: list[float], y: int) -> float:
    return math.log(softmax(z)[y])


def naive_npo(forget: Rows) -> float:
    pairs = zip(tokens_of(forget), forget.reference_logp.tolist(), strict=True)
    return mean([sigmoid_loss(0.1, ref - logp_of(row)) for row, ref in pairs])


def naive_simnpo(forget: Rows) -> float:
    return mean([sigmoid_loss(4.5, -logp_of(row) / len(row)) for row in tokens_of(forget)])


def naive_dpo(forget: Rows) -> float:
    losing, winning = (
        [logp_of(row) - ref for row, ref in zip(tokens_of(side), side.reference_logp.tolist(), strict=True)]
        for side in (forget, forget.alternative)
    )
    return mean([sigmoid_loss(0.1, win - lose) for win, lose in zip(winning, losing, strict=True)])


def naive_rmu(forget: Rows) -> float:
    target = (2 * control_direction(forget.hidden.shape[-1], seed=0)).tolist()
    total = []
    for b, row in enumerate(tokens_of(forget)):
        distances = []
        for _, _, t in row:
            state = forget.hidden[b, t].tolist()
            distances.append(mean([(h - c) ** 2 for h, c in zip(state, target, strict=True)]))
        total.append(mean(distances))
    return mean(total)


def naive_undial(forget: Rows) -> float:
    losses = []
    for b, row in enumerate(tokens_of(forget)):
        for z, y, t in row:
            teacher = forget.reference_logits[b, t].tolist()
            teacher[y] -= 10
            losses.append(-sum(q * math.log(p) for q, p in zip(softmax(teacher), softmax(z), strict=True)))
    return mean(losses)


def naive_wga(z: list[float], y: int) -> float:
    p = softmax(z)[y]
    return p * math.log(p)


def naive_satimp(z: list[float], y: int) -> float:
    p = softmax(z)[y]
    return p**5 * (1 - p) * math.log(p)


def naive_ce_u(z: list[float], y: int) -> float:
    others = [v for v in range(len(z)) if v != y]
    target = softmax([z[v] for v in others])
    return -sum(q * math.log(softmax(z)[v]) for q, v in zip(target, others, strict=True))


def naive_pdu(z: list[float], y: int) -> float:
    return (max(z) - mean(z)) ** 2


def naive_hinge(z: list[float], y: int) -> float:
    p = softmax(z)
    return max(0.0, 1 + p[y] - max(p[v] for v in range(len(p)) if v != y))


NAIVE: dict[str, Callable[[Rows], float]] = {
    "altpo": naive_dpo,
    "ce_u": each_token(naive_ce_u, skip=1),
    "dpo": naive_dpo,
    "gradient_ascent": each_token(ascent),
    "gradient_difference": each_token(ascent),
    "kl_ascent": each_token(ascent),
    "loku": each_token(naive_hinge),
    "npo": naive_npo,
    "pdu": each_token(naive_pdu),
    "repselect": each_token(ascent),
    "rmu": naive_rmu,
    "satimp": each_token(naive_satimp),
    "simnpo": naive_simnpo,
    "token_local": naive_npo,
    "undial": naive_undial,
    "wga": each_token(naive_wga),
}
DETACHED = {"wga", "satimp", "ce_u"}
"""Losses that are not what is differentiated: their weights or targets count as constants."""


def test_every_loss_has_a_loop() -> None:
    assert {method.name for method in UNLEARNERS if method.kind == "loss"} >= set(NAIVE)
    assert set(method_names()) <= set(NAIVE) | {"negation", "retrain", "shards"}


@pytest.mark.parametrize("name", sorted(NAIVE))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_loss_is_that_of_a_loop_over_tokens(name: str, seed: int) -> None:
    """On rows that the model knows, and on rows of which it knows nothing."""
    method = UNLEARNERS.get(name)
    known = planted_rows(*method.needs, seed=seed)
    made = torch.Generator().manual_seed(seed)
    for logits in (known.logits, 3 * torch.randn(known.logits.shape, generator=made)):
        given = {need: getattr(known, need) for need in method.needs}
        forget = Rows(logits=logits, gold=known.gold, trained=known.trained, **given)
        assert method(forget).item() == pytest.approx(NAIVE[name](forget), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", sorted(NAIVE.keys() - DETACHED))
def test_the_gradient_is_that_of_small_changes(name: str) -> None:
    """In float64."""
    method = UNLEARNERS.get(name)
    known = planted_rows(*method.needs, seed=1, rows=2)
    at = (known.hidden if name == "rmu" else known.logits).double().requires_grad_()
    given = {need: getattr(known, need) for need in method.needs}

    def of(values: torch.Tensor) -> torch.Tensor:
        changed = {**given, "logits": known.logits.double()} | {"hidden" if name == "rmu" else "logits": values}
        return method(Rows(gold=known.gold, trained=known.trained, **changed)).double()

    if name == "rmu":  # distances are taken in float32
        assert torch.autograd.gradcheck(of, at, eps=1e-2, atol=1e-3, rtol=1e-2)
    else:
        assert torch.autograd.gradcheck(of, at, eps=1e-5, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["wga", "satimp"])
def test_weights_have_no_gradient(name: str) -> None:
    """The gradient is the weight times that of ascent, token by token."""
    known = planted_rows(seed=2)
    logits = known.logits.requires_grad_()
    (weighted,) = torch.autograd.grad(UNLEARNERS.get(name)(known), logits)
    (plain,) = torch.autograd.grad(UNLEARNERS.get("gradient_ascent")(known), logits)
    p = known.token_logp.detach().exp()
    weight = p if name == "wga" else p**5 * (1 - p)
    torch.testing.assert_close(weighted, plain * (weight * known.trained)[..., None], rtol=1e-4, atol=1e-7)


# ---- extremes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(NAIVE))
@pytest.mark.parametrize("scale", [0.0, 60.0, -60.0, 3e4])
def test_certain_and_impossible_tokens_give_finite_losses_and_gradients(name: str, scale: float) -> None:
    """The true token certain, as likely as any other, or out of reach."""
    method = UNLEARNERS.get(name)
    known = planted_rows(*method.needs)
    extreme = torch.zeros_like(known.logits).scatter(2, known.gold[..., None], scale).requires_grad_()
    given = {need: getattr(known, need) for need in method.needs}
    value = method(Rows(gold=known.gold, trained=known.trained, **({"logits": extreme} | given)))
    assert bool(value.isfinite())
    if name != "rmu":
        (grad,) = torch.autograd.grad(value, extreme)
        assert bool(grad.isfinite().all())
