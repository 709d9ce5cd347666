# SPDX-License-Identifier: Apache-2.0
"""RepSelect on a whole model: the gradient that is made once, against a loop over batches, and the steps along it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from reticent.core.errors import BadInput
from reticent.models.mlp_matrices import mlp_matrices
from reticent.models.tuned import read_tuned
from reticent.testing.saved import weights
from reticent.testing.tiny import tiny_of_family, tiny_tokenizer
from reticent.testing.unlearned import KnownRows
from reticent.train.batches import collate, encode_all
from reticent.train.unlearning.collapsed import CollapsedTrainer
from reticent.train.unlearning.method import UNLEARNERS, Unlearner
from reticent.train.unlearning.methods.repselect import collapse, principal_directions

SETTINGS = {"components": 3, "elicit_rate": 0.0}


def trainer(model: Any, rows: KnownRows, folder: Path, **params: Any) -> CollapsedTrainer:
    return CollapsedTrainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), use_cpu=True, per_device_train_batch_size=3),
        encoded=encode_all(rows.forget, tiny_tokenizer(), 32).encoded,
        held_out=[],
        pad=0,
        autocast=False,
        retain=[],
        method=UNLEARNERS.get("repselect"),
        params=SETTINGS | params,
        forget_weight=1.0,
        retain_weight=1.0,
    )


def naive(model: Any, rows: KnownRows) -> list[torch.Tensor]:
    """By a loop over batches and autograd, matrix by matrix: the sum of gradients of the mean log-probability."""
    encoded = encode_all(rows.forget, tiny_tokenizer(), 32).encoded
    matrices = [layer.weight for layer in mlp_matrices(model).values()]
    sums = [torch.zeros_like(matrix) for matrix in matrices]
    model.requires_grad_(True)
    for start in range(0, len(encoded), 3):
        batch = collate(encoded[start : start + 3], pad=0)
        for total, gradient in zip(sums, torch.autograd.grad(-model(**batch).loss, matrices), strict=True):
            total += gradient
    return [collapse(total, principal_directions(total, 3)) for total in sums]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_gradient_is_that_of_a_loop(family: str, rows: KnownRows, tmp_path: Path) -> None:
    made = trainer(tiny_of_family(family), rows, tmp_path)
    for gradient, other in zip(made.gradients, naive(tiny_of_family(family), rows), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-6)
    names = {name for name, weight in made.model.named_parameters() if weight.requires_grad}
    assert names == {name for name, _ in made.model.named_parameters() if ".mlp." in name and name.endswith("weight")}
    assert all(weight.grad is None for weight in made.model.parameters())


def test_elicitation_changes_the_gradient_and_leaves_the_model_as_it_was(rows: KnownRows, tmp_path: Path) -> None:
    model = tiny_of_family("llama")
    before = copy.deepcopy(model.state_dict())
    plain = trainer(copy.deepcopy(model), rows, tmp_path)
    elicited = trainer(model, rows, tmp_path, elicit_rate=5.0)
    again = trainer(tiny_of_family("llama"), rows, tmp_path, elicit_rate=5.0)
    after = elicited.model.state_dict()
    assert before.keys() == after.keys()  # no adapter is left
    assert all(torch.equal(after[name], before[name]) for name in before)
    pairs = list(zip(plain.gradients, elicited.gradients, strict=True))
    assert all((left - right).norm() > 1e-2 * left.norm() for left, right in pairs)
    assert all(torch.equal(left, right) for left, right in zip(elicited.gradients, again.gradients, strict=True))


def test_the_adapter_brings_out_what_the_rows_taught(rows: KnownRows, tmp_path: Path) -> None:
    made = trainer(tiny_of_family("llama"), rows, tmp_path)
    losses = []
    for rate in (1e-9, 0.5):
        adapted = made._elicited(list(mlp_matrices(made.model)), rate)
        losses.append(made.compute_loss(adapted, made._placed(made.batches[0])).item())
        adapted.unload()
    assert losses[1] > losses[0] + 0.05  # of the log-probability


class Watch(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.steps: list[int] = []
        self.epochs: list[float] = []
        self.before: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.before = {name: weight.detach().clone() for name, weight in kwargs["model"].named_parameters()}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps.append(state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.epochs.append(state.epoch)
        if state.global_step == 3:
            control.should_training_stop = True


def test_each_epoch_is_one_step_along_the_gradient(
    unlearned: Any, tuned_models: Callable[[str], Path], loss_of: Any, rows: KnownRows, tmp_path: Path
) -> None:
    """Epochs are what a panel looks between, and it may end the training."""
    parent, watch = tuned_models("full"), Watch()
    out = unlearned(
        "full", "repselect", tmp_path / "out", rate=20.0, epochs=5, params={"components": 4}, callbacks=[watch]
    )
    assert (watch.steps, watch.epochs) == ([1, 2, 3], [1.0, 2.0, 3.0])
    short = unlearned("full", "repselect", tmp_path / "short", rate=20.0, epochs=1, params={"components": 4})
    start, near, far = weights(parent), weights(short), weights(out)
    changed = {name for name in start if not torch.equal(start[name], far[name])}
    assert changed == {name for name in start if ".mlp." in name}
    for name in changed:
        torch.testing.assert_close(far[name] - start[name], 3 * (near[name] - start[name]), rtol=1e-3, atol=1e-5)
    tuned = read_tuned(out)
    assert tuned is not None
    assert (tuned.storage, tuned.method, tuned.request) == ("weights", "full", "a request")
    assert loss_of(out, rows.forget) > loss_of(parent, rows.forget) + 0.2


def test_a_model_without_such_matrices_is_refused_by_name(rows: KnownRows, tmp_path: Path) -> None:
    model = tiny_of_family("llama")
    for block in model.model.layers:
        block.mlp = torch.nn.Identity()
    with pytest.raises(BadInput, match="has no matrices of MLPs by any of the names"):
        trainer(model, rows, tmp_path)


def test_a_declaration_that_the_one_gradient_cannot_hold_is_refused() -> None:
    method = UNLEARNERS.get("repselect")
    given = {"name": "x", "summary": "X.", "paper": method.paper, "function": method.function}
    for more in ({"retain": "nll"}, {"needs": frozenset({"reference_logits"})}):
        with pytest.raises(ValueError, match="a collapsed gradient"):
            Unlearner(collapse=method.collapse, **given, **more)  # type: ignore[arg-type]


def test_few_tokens_do_not_leave_the_gradient_without_strength(rows: KnownRows, tmp_path: Path) -> None:
    """By default more directions would be weakened than there are, and the weakest is next to nothing."""
    model = tiny_of_family("llama")
    made = trainer(copy.deepcopy(model), rows, tmp_path, components=512)
    for gradient, part in zip(made.gradients, naive(model, rows), strict=True):
        assert gradient.norm() > 0.1 * part.norm()
