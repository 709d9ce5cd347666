# SPDX-License-Identifier: Apache-2.0
"""Every loss on a tiny model that knows two texts: trained by it, the model knows them less."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reticent.testing.tiny import tiny_model
from reticent.train.unlearning.method import UNLEARNERS, Unlearner
from reticent.train.unlearning.retain import RETAIN_TERMS, total_loss
from reticent.train.unlearning.rows import Rows

TEXTS = torch.tensor([[5, 9, 30, 31, 32, 33, 34, 0], [6, 9, 40, 41, 42, 43, 44, 45]])
OTHERS = torch.tensor([[7, 9, 50, 51, 52, 53, 54, 55], [8, 9, 60, 61, 62, 63, 64, 65]])
ANSWERS = torch.tensor([[0, 1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1, 1]]) > 0


def rows_of(model: Any, texts: torch.Tensor, reference: Any, needs: frozenset[str]) -> Rows:
    """As a trainer makes them; the reference is the model before unlearning."""
    output = model(input_ids=texts, output_hidden_states=True)
    with torch.no_grad():
        before = reference(input_ids=texts, output_hidden_states=True)
    given: dict[str, Any] = {"logits": output.logits[:, :-1], "gold": texts[:, 1:], "trained": ANSWERS}
    plain = Rows(**(given | {"logits": before.logits[:, :-1]}))
    every = {
        "reference_logp": lambda: plain.logp,
        "reference_logits": lambda: before.logits[:, :-1],
        "alternative": lambda: rows_of(model, OTHERS.flip(0), reference, frozenset({"reference_logp"})),
        "hidden": lambda: output.hidden_states[1][:, :-1],
        "reference_hidden": lambda: before.hidden_states[1][:, :-1],
    }
    return Rows(**given, **{need: every[need]() for need in needs})


def tuned() -> Any:
    """A model that knows the texts and the others by heart."""
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        rows = [rows_of(model, texts, model, frozenset()) for texts in (TEXTS, OTHERS)]
        optimizer.zero_grad()
        (-sum(part.logp.sum() for part in rows)).backward()
        optimizer.step()
    assert rows_of(model, TEXTS, model, frozenset()).logp.min() > -0.5
    return model


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in tuned().state_dict().items()}


def loaded(weights: dict[str, torch.Tensor]) -> Any:
    model = tiny_model()
    model.load_state_dict(weights)
    return model


def step_loss(method: Unlearner, model: Any, reference: Any) -> torch.Tensor:
    forget = method(rows_of(model, TEXTS, reference, method.needs))
    term = RETAIN_TERMS[method.retain]
    retain = None if term is None else term(rows_of(model, OTHERS, reference, term.needs))
    return total_loss(forget, retain, forget_weight=method.forget_weight, retain_weight=min(1.0, method.retain_weight))


@pytest.mark.parametrize("name", [method.name for method in UNLEARNERS if method.kind == "loss"])
def test_training_by_it_makes_the_texts_less_likely(name: str, weights: dict[str, torch.Tensor]) -> None:
    method = UNLEARNERS.get(name)
    model, reference = loaded(weights), loaded(weights)
    before = rows_of(model, TEXTS, reference, frozenset()).logp.detach()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(10):
        optimizer.zero_grad()
        step_loss(method, model, reference).backward()
        optimizer.step()
    after = rows_of(model, TEXTS, reference, frozenset())
    kept = rows_of(model, OTHERS, reference, frozenset())
    if method.direction == "falls":
        assert bool((after.logp < before).all()), (before, after.logp)
        assert (before - after.logp).sum() > 0.5, (before, after.logp)
    else:
        assert method.name == "rmu"
        start = method(rows_of(reference, TEXTS, reference, method.needs))
        assert method(rows_of(model, TEXTS, reference, method.needs)) < 0.8 * start
    if method.retain != "none" and method.retain_weight:
        lost, other = (before - after.logp).mean(), -kept.logp.mean()
        assert other < lost or method.direction == "none", (lost, other)


@pytest.mark.parametrize("name", ["npo", "undial", "rmu", "dpo"])
def test_the_same_seed_gives_the_same_weights(name: str, weights: dict[str, torch.Tensor]) -> None:
    method = UNLEARNERS.get(name)

    def trained() -> dict[str, torch.Tensor]:
        model, reference = loaded(weights), loaded(weights)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            step_loss(method, model, reference).backward()
            optimizer.step()
        return model.state_dict()

    first, second = trained(), trained()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], weights[key]) for key in first)
