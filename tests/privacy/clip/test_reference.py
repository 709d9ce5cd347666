# SPDX-License-Identifier: Apache-2.0
"""The oracle against what can be worked out by hand, and the models that it is used on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from reticent.core.errors import BadInput
from reticent.models.encode import IGNORED
from reticent.privacy.clip.reference import ReferenceClipper
from reticent.testing.clip_conformance import Batch, check_same_sums, make_batch, ordinary_gradient
from reticent.testing.tiny import ZOO, tiny_of_family, tiny_tuned

VOCABULARY = 5


class Bigram(nn.Module):
    """Logits are a row of a table: after token a comes token b with probability softmax(W[a])[b]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0)))

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> CausalLMOutput:
        return CausalLMOutput(logits=self.table[input_ids])


def by_hand(table: np.ndarray, row: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss of a row and its gradient: softmax minus one-hot, in the row of the token before."""
    gradient, losses = np.zeros_like(table), []
    trained = [t for t in range(1, len(row)) if labels[t] != IGNORED]
    for t in trained:
        p = np.exp(table[row[t - 1]]) / np.exp(table[row[t - 1]]).sum()
        losses.append(-np.log(p[labels[t]]))
        gradient[row[t - 1]] += (p - np.eye(VOCABULARY)[labels[t]]) / len(trained)
    return float(np.mean(losses)) if losses else 0.0, gradient


@settings(deadline=None, max_examples=30)
@given(
    units=st.integers(0, 4),
    rows_per_unit=st.integers(1, 3),
    tokens=st.integers(1, 6),
    clipping=st.sampled_from(["flat", "automatic", "per_layer"]),
    seed=st.integers(0, 1000),
)
def test_a_bigram_model_by_hand(units: int, rows_per_unit: int, tokens: int, clipping: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = units * rows_per_unit
    ids = rng.integers(0, VOCABULARY, (rows, tokens))
    labels = np.where(rng.random((rows, tokens)) < 0.6, ids, IGNORED)
    weight = rng.random(rows) * (rng.random(rows) < 0.8)
    model = Bigram()
    clipper = ReferenceClipper(model, clip_norm=0.3, clipping=clipping)  # type: ignore[arg-type]
    seen = clipper.accumulate(
        {"input_ids": torch.tensor(ids)},
        torch.tensor(labels),
        weight=torch.tensor(weight, dtype=torch.float32),
        rows_per_unit=rows_per_unit,
    )
    table = model.table.detach().double().numpy()
    expected = np.zeros_like(table)
    for unit in range(units):
        loss, gradient = 0.0, np.zeros_like(table)
        for row in range(unit * rows_per_unit, (unit + 1) * rows_per_unit):
            one = by_hand(table, ids[row], labels[row])
            loss, gradient = loss + weight[row] * one[0], gradient + weight[row] * one[1]
        norm = np.linalg.norm(gradient)
        assert seen.norm[unit] == pytest.approx(norm, rel=1e-5, abs=1e-7)
        assert seen.loss[unit] == pytest.approx(loss, rel=1e-5, abs=1e-7)
        expected += gradient * (0.3 / (norm + 0.01) if clipping == "automatic" else min(1, 0.3 / max(norm, 1e-12)))
    np.testing.assert_allclose(clipper.take()[model.table].numpy(), expected, rtol=1e-4, atol=1e-6)
    assert not clipper.take()[model.table].any()


def test_per_layer_bounds_each_parameter_by_its_share() -> None:
    model = tiny_tuned("qwen2", "bitfit")
    batch = make_batch(model, units=1, tokens=8)
    free, bound = (ReferenceClipper(model, clip_norm=c, clipping="per_layer") for c in (math.inf, 0.2))
    batch.give(free)
    batch.give(bound)
    whole, clipped = free.take(), bound.take()
    share = 0.2 / math.sqrt(len(whole))
    shorter = 0
    for parameter, gradient in whole.items():
        norm = float(gradient.norm())
        shorter += norm < share
        torch.testing.assert_close(clipped[parameter], gradient * min(1.0, share / norm))
    assert 0 < shorter < len(whole)


@pytest.mark.parametrize("method", ["full", "lora", "prefix", "prompt"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_with_no_bound_it_is_backward(family: str, method: str) -> None:
    """Prefix and prompt put virtual tokens before the text, so labels count from the right."""
    model = tiny_tuned(family, method)
    batch = make_batch(model, units=3, rows_per_unit=2, tokens=9)
    clipper = ReferenceClipper(model, clip_norm=math.inf)
    with clipper.attached():
        batch.give(clipper)
    assert all(parameter.grad is None for parameter in model.parameters())
    check_same_sums(model, clipper.take(), ordinary_gradient(model, batch))


def test_its_loss_is_the_models_own() -> None:
    model = tiny_tuned("llama", "full")
    batch = make_batch(model, units=3, tokens=9)
    seen = batch.give(ReferenceClipper(model, clip_norm=1.0))
    for row in range(3):
        inputs = {name: value[row : row + 1] for name, value in batch.inputs.items()}
        with torch.no_grad():
            own = float(model(**inputs, labels=batch.labels[row : row + 1]).loss)
        assert seen.loss[row] == pytest.approx(own * float(batch.weight[row]), rel=1e-5)


def test_tied_parameters_appear_once_and_unused_ones_count_as_zero() -> None:
    model = tiny_tuned("llama", "full")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    batch = make_batch(model, units=2, tokens=6)
    first = ReferenceClipper(model, clip_norm=1.0)
    alone = batch.give(first)
    model.idle = nn.Linear(3, 3)
    second = ReferenceClipper(model, clip_norm=1.0)
    assert torch.equal(batch.give(second).norm, alone.norm)
    before, after = first.take(), second.take()
    assert len(after) == len(before) + 2
    assert not after[model.idle.weight].any()
    assert all(torch.equal(after[parameter], total) for parameter, total in before.items())


def test_rows_must_make_whole_units() -> None:
    model = Bigram()
    ids = torch.zeros(3, 4, dtype=torch.long)
    with pytest.raises(BadInput, match="whole units"):
        ReferenceClipper(model, clip_norm=1.0).accumulate(
            {"input_ids": ids}, ids, weight=torch.ones(3), rows_per_unit=2
        )


# ---- the zoo -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ZOO)
def test_a_tiny_model_hides_nothing(family: str) -> None:
    """Nothing is at a value where a mistake would not show, and every gradient is more than rounding."""
    state = torch.random.get_rng_state()
    model, again, other = (tiny_of_family(family, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not model.training
    for (name, one), two, three in zip(model.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, two), name
        assert not torch.equal(one, three), name
        assert one.std() > 0.03, name
    model.requires_grad_(True)
    clipper = ReferenceClipper(model, clip_norm=math.inf)
    seen = make_batch(model, units=3, tokens=12).give(clipper)
    for parameter, total in clipper.take().items():
        assert total.norm() > 1e-4 * seen.norm.max(), clipper.names[parameter]


def test_a_batch_has_all_that_it_should() -> None:
    model = tiny_of_family("llama")
    batch = make_batch(model, units=4, tokens=12, rows_per_unit=3)
    mask, labels = batch.inputs["attention_mask"].bool(), batch.labels
    assert batch.weight.shape == (12,)
    assert mask.sum(1).max() == 12
    assert (~mask & (labels != IGNORED)).sum() == 0
    assert (mask & (labels == IGNORED)).any()
    filling = ~mask.any(1)
    assert filling.any()
    assert torch.equal(filling, batch.weight == 0)
    assert batch.weight.view(4, 3)[:, 0].all()
    assert (batch.inputs["input_ids"][mask] == model.config.pad_token_id).any()
    assert isinstance(batch.take([0]), Batch)
