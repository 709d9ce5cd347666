# SPDX-License-Identifier: Apache-2.0
"""LoKU on a whole model: its Fisher sums, an adapter that changes nothing before the first step, and what is stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import TrainerCallback, TrainingArguments

from reticent.models.load import load
from reticent.models.tuned import read_tuned
from reticent.testing.saved import same, weights
from reticent.testing.tiny import tiny_of_family, tiny_tokenizer
from reticent.testing.unlearned import KnownRows
from reticent.train.batches import collate, encode_all
from reticent.train.unlearning.fisher_lora import fisher_sums, put_on
from reticent.train.unlearning.parts import FisherLora

FAMILIES = ("llama", "gpt2")  # of the second, matrices lie the other way round


def encoded(rows: KnownRows) -> tuple[Any, Any]:
    return tuple(encode_all(side, tiny_tokenizer(), 32).encoded for side in (rows.forget, rows.retain))  # type: ignore[return-value]


def adapted(model: Any, rows: KnownRows, folder: Path, **settings: Any) -> Any:
    args = TrainingArguments(output_dir=str(folder), use_cpu=True, per_device_train_batch_size=3)
    forget, retain = encoded(rows)
    return put_on(model, FisherLora(**settings), forget=forget, retain=retain, args=args, pad=0, autocast=False)


def test_fisher_sums_are_those_of_gradients_taken_one_by_one(rows: KnownRows) -> None:
    model = tiny_of_family("llama")
    forget, _ = encoded(rows)
    batches = [collate(part, pad=0) for part in (forget[:3], forget[3:5])]
    empty = collate(forget[:1], pad=0)
    empty["labels"][:] = -100  # of a batch without a token to predict the mean loss is not a number
    matrices = [model.model.layers[0].mlp.up_proj.weight, model.model.layers[1].self_attn.q_proj.weight]
    model.requires_grad_(False)
    for matrix in matrices:
        matrix.requires_grad_(True)
    sums = fisher_sums(model, matrices, [*batches, empty])
    for matrix, total in zip(matrices, sums, strict=True):
        naive, tokens = torch.zeros_like(matrix), 0
        for batch in batches:
            logp = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(-1)
            places = [
                (row, t) for row in range(len(logp)) for t in range(1, logp.shape[1]) if batch["labels"][row, t] >= 0
            ]
            loss = -torch.stack([logp[row, t - 1, batch["labels"][row, t]] for row, t in places]).mean()
            (gradient,) = torch.autograd.grad(loss, matrix)
            naive += gradient**2 * len(places)
            tokens += len(places)
        torch.testing.assert_close(total.squares, naive, rtol=1e-4, atol=1e-9)
        assert total.tokens == tokens
        assert matrix.grad is None


@pytest.mark.parametrize("family", FAMILIES)
def test_before_the_first_step_the_model_answers_as_it_did(family: str, rows: KnownRows, tmp_path: Path) -> None:
    before, model = tiny_of_family(family), tiny_of_family(family)
    answers = adapted(model, rows, tmp_path, rank=4, alpha=8.0).eval()
    ids = torch.arange(12)[None]
    torch.testing.assert_close(answers(input_ids=ids).logits, before(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
    layers = [module for module in answers.modules() if isinstance(module, LoraLayer)]
    assert len(layers) == (14 if family == "llama" else 8)
    moved = [layer.lora_B["default"].weight @ layer.lora_A["default"].weight for layer in layers]
    assert all(product.any() for product in moved)  # each matrix gave something to its adapter
    trained = {name for name, weight in answers.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in answers.named_parameters() if "lora_" in name}
    merged = answers.merge_and_unload()
    for (name, weight), (other, was) in zip(merged.named_parameters(), before.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(weight, was, rtol=1e-4, atol=1e-5)


def test_a_rank_beyond_that_of_a_matrix_leaves_the_rest_of_the_adapter_at_zero(rows: KnownRows, tmp_path: Path) -> None:
    before, model = tiny_of_family("llama"), tiny_of_family("llama")
    answers = adapted(model, rows, tmp_path, rank=40).eval()
    ids = torch.arange(12)[None]
    torch.testing.assert_close(answers(input_ids=ids).logits, before(input_ids=ids).logits, rtol=1e-4, atol=1e-5)


def test_the_outcome_is_a_whole_model_that_forgot(
    unlearned: Any, tuned_models: Callable[[str], Path], loss_of: Any, rows: KnownRows, tmp_path: Path
) -> None:
    parent = tuned_models("full")
    out = unlearned("full", "loku", tmp_path / "out", rate=2e-2, epochs=4, params={"rank": 8})
    tuned = read_tuned(out)
    assert tuned is not None
    assert (tuned.storage, tuned.method, tuned.request) == ("weights", "full", "a request")
    assert tuned.parent == load(str(parent), dtype="float32").fingerprint
    assert weights(out).keys() == weights(parent).keys()
    assert not (out / "adapter_model.safetensors").exists()
    changed = {name for name, weight in weights(out).items() if not torch.equal(weight, weights(parent)[name])}
    assert changed == {name for name in weights(parent) if "_proj" in name}  # neither embeddings nor norms
    assert loss_of(out, rows.forget) > loss_of(parent, rows.forget) + 0.3
    assert loss_of(out, rows.retain) < loss_of(out, rows.forget)


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches kill -9."""


class Kill(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


@pytest.mark.parametrize(("method", "rate", "step"), [("loku", 1e-3, 5), ("repselect", 0.05, 2)])
def test_killed_and_called_again_it_ends_with_the_same_weights(
    method: str, rate: float, step: int, unlearned: Any, tmp_path: Path
) -> None:
    whole = unlearned("full", method, tmp_path / "whole", rate=rate, epochs=4)
    with pytest.raises(Killed):
        unlearned("full", method, tmp_path / "killed", rate=rate, epochs=4, callbacks=[Kill(step)])
    assert list((tmp_path / ".killed.training").glob("checkpoint-*/whole"))
    again = unlearned(
        "full", method, tmp_path / "killed", rate=rate, epochs=4, callbacks=[Kill(1)]
    )  # goes on behind it
    assert same(whole, again)
