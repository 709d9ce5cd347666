# SPDX-License-Identifier: Apache-2.0
"""The trainer with every loss method, on a tuned model's adapter and on all weights; the reference beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reticent.models.in_memory import evaluating
from reticent.models.load import load
from reticent.models.tuning.method import TUNINGS
from reticent.testing.tiny import tiny_model, tiny_tokenizer
from reticent.testing.unlearned import KnownRows
from reticent.train.arguments import arguments_of
from reticent.train.batches import collate
from reticent.train.config import TuneConfig
from reticent.train.held_out import held_out_loss
from reticent.train.objectives.apply import make_trainer, prepare_material
from reticent.train.objectives.unlearning import Unlearning
from reticent.train.unlearning.forget_row import collate_rows, drawn
from reticent.train.unlearning.method import UNLEARNERS

LOSSES = [method for method in UNLEARNERS if method.kind == "loss"]
CASES = [
    pytest.param(tuning, method.name, id=f"{method.name}-{tuning}")
    for method in LOSSES
    for tuning in ("full", "lora")
    if tuning == "full" or not method.needs_all_weights
]
RATES = {"full": 3e-3, "lora": 2e-2, "repselect": 2.0, "loku": 2e-2}
SETTINGS: dict[str, dict[str, Any]] = {
    "rmu": {"layer": 1},
    "pdu": {"dual_warmup_epochs": 0},
    "repselect": {"components": 4},
    "token_local": {"tail_quantile": 0.5},
}
WEIGHTS: dict[str, dict[str, float]] = {
    "pdu": {"retain_weight": 1.0},
    "satimp": {"forget_weight": 1.0, "retain_weight": 0.1},
    "simnpo": {"forget_weight": 1.0},
}
"""Where the authors' weights give the others so much that the forget rows hardly move in a few steps."""


def base() -> Any:
    return tiny_model().eval().requires_grad_(False)


def trainer(objective: Unlearning, model: Any, rows: KnownRows, folder: Path, **settings: Any) -> Any:
    """As `reticent.train.trainer.tune` makes it, without checkpoints."""
    material = prepare_material(
        [objective],
        rows.forget,
        tiny_tokenizer(),
        32,
        record_sets={"retain": rows.retain, "unseen": rows.unseen},
        reference=base,
    )
    config = TuneConfig(
        **{"epochs": 2, "batch_size": 4, "warmup": 0.0, "weight_decay": 0.0, "dtype": "float32"} | settings
    ).settled(1e-3)
    changed = objective.arguments() | {"save_strategy": "no", "logging_strategy": "no"}
    return make_trainer([objective], material)(
        model=model,
        args=arguments_of(config, folder / "model", "cpu", changed, evaluate=False),
        encoded=material.corpus.encoded,
        held_out=[],
        pad=material.pad,
        autocast=False,
    )


def tuned_model(tuned_models: Callable[[str], Path], tuning: str) -> Any:
    """Marked for training as it was tuned."""
    model = load(str(tuned_models(tuning)), dtype="float32").model
    return TUNINGS.get("full")(model) if tuning == "full" else model


def loss_of(model: Any, rows: Any) -> float:
    with evaluating(model):
        return held_out_loss(model, rows, size=8, pad=0, bfloat16=False)


@pytest.mark.parametrize(("tuning", "name"), CASES)
def test_a_short_unlearning_raises_the_loss_of_forget_rows(
    tuning: str, name: str, tuned_models: Callable[[str], Path], rows: KnownRows, tmp_path: Path
) -> None:
    objective = Unlearning(method=name, params=SETTINGS.get(name, {}), **WEIGHTS.get(name, {}))  # type: ignore[arg-type]
    model = tuned_model(tuned_models, tuning)
    made = trainer(objective, model, rows, tmp_path, learning_rate=RATES.get(name, RATES[tuning]))
    material = prepare_material([], rows.forget, tiny_tokenizer(), 32, reference=base)
    before = loss_of(made.model, material.corpus.encoded)
    trained = {name: weight.detach().clone() for name, weight in made.model.named_parameters() if weight.requires_grad}
    made.train()
    after = loss_of(made.model, material.corpus.encoded)
    assert any(
        not torch.equal(weight, trained[name]) for name, weight in made.model.named_parameters() if name in trained
    )
    assert made.state.global_step == (2 if name == "repselect" else 4)
    if objective.declared.direction == "falls":
        assert after > before + 0.02, (before, after)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_kl_ascent_is_ascent_and_the_distance_to_the_model_before(
    tuning: str, tuned_models: Callable[[str], Path], rows: KnownRows, tmp_path: Path
) -> None:
    """Against a naive recomputation, token by token, with a second model that nothing is done to."""
    alpha = 0.7
    model, before = (tuned_model(tuned_models, tuning).eval() for _ in range(2))
    made = trainer(Unlearning(method="kl_ascent", retain_weight=alpha), model, rows, tmp_path)
    plain = trainer(Unlearning(method="gradient_ascent"), model, rows, tmp_path)
    batch = collate_rows(made.train_dataset[:4], pad=0)
    assert made.batch_loss(model, batch).item() == pytest.approx(plain.batch_loss(model, batch).item(), abs=1e-6)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.2)
    for _ in range(4):
        optimizer.zero_grad()
        made.batch_loss(model, batch).backward()
        optimizer.step()
    there = [(weight, weight.data_ptr(), weight.detach().clone()) for weight in model.parameters()]
    loss, ascent = made.batch_loss(model, batch).item(), plain.batch_loss(model, batch).item()
    assert all(weight.data_ptr() == place and torch.equal(weight, was) for weight, place, was in there)
    others = collate(drawn(made.retain, 4, seed=made.args.seed, step=0), pad=0)
    given = {name: others[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        log_p, log_before = (side(**given).logits.double().log_softmax(-1) for side in (model, before))
    distances = [
        float((log_before[row, t - 1].exp() * (log_before[row, t - 1] - log_p[row, t - 1])).sum())
        for row in range(4)
        for t in range(1, others["labels"].shape[1])
        if others["labels"][row, t] >= 0
    ]
    distance = sum(distances) / len(distances)
    assert distance > 1e-3
    assert loss - ascent == pytest.approx(alpha * distance, rel=1e-3)


def test_a_reference_is_given_back_though_a_pass_fails(
    tuned_models: Callable[[str], Path], rows: KnownRows, tmp_path: Path
) -> None:
    model = tuned_model(tuned_models, "lora")
    made = trainer(Unlearning(method="kl_ascent"), model, rows, tmp_path)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1)
    there = [weight.detach().clone() for weight in model.parameters()]
    with pytest.raises(ZeroDivisionError), made.reference.in_place():
        raise ZeroDivisionError
    assert all(torch.equal(weight, was) for weight, was in zip(model.parameters(), there, strict=True))
