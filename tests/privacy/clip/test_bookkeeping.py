# SPDX-License-Identifier: Apache-2.0
"""One backward pass gives what the loop gives: every tuning method on every family, and what lies at the edges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from reticent.core.errors import BadInput
from reticent.models.tuning.method import TUNINGS
from reticent.privacy.clip import contribution
from reticent.privacy.clip.api import Clipped, make_clipper
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.reference import IGNORED, ReferenceClipper
from reticent.testing.clip_conformance import (
    Batch,
    check_against_reference,
    check_clip,
    check_same_seen,
    check_same_sums,
    clip,
    make_batch,
    ordinary_gradient,
)
from reticent.testing.tiny import ZOO, tiny_of_family, tiny_tuned

WITHOUT_BIASES = set(ZOO) - {"gpt2", "qwen2"}
UNTIED = {"llama_untied", "mistral"}
PAIRS = [
    (family, method)
    for family in ZOO
    for method in TUNINGS.names()
    if not (method == "bitfit" and family in WITHOUT_BIASES) and not (method == "head_tied" and family in UNTIED)
]


@pytest.mark.parametrize(("family", "method"), PAIRS)
def test_every_method_on_every_family(family: str, method: str) -> None:
    check_clip(lambda: tiny_tuned(family, method))


def test_norms_are_computed_in_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lengths of ``check_clip`` lead to both; and both give the same when forced."""
    model = tiny_tuned("llama", "full")
    chosen = []
    choose = contribution.smaller_written_out
    with monkeypatch.context() as patch:
        patch.setattr(
            "reticent.privacy.clip.tape.smaller_written_out", lambda one: chosen.append(choose(one)) or chosen[-1]
        )
        for tokens in (7, 40):
            clip(model, make_batch(model, units=2, tokens=tokens))
    assert {True, False} == set(chosen)
    for written_out in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr("reticent.privacy.clip.tape.smaller_written_out", lambda one, way=written_out: way)
            for family in ("gpt2", "llama", "gemma3"):
                check_against_reference(tiny_tuned(family, "full"), tokens=(3, 24))


@pytest.mark.parametrize("method", ["full", "lora", "adapter", "ia3", "prompt"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_gradient_checkpointing(family: str, method: str) -> None:
    model = tiny_tuned(family, method)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    check_against_reference(model, tokens=(16,))


def test_a_model_in_bfloat16() -> None:
    model = tiny_tuned("llama", "lora").to(torch.bfloat16)
    batch = make_batch(model, units=4, tokens=30)
    seen, sums = clip(model, batch)
    oracle = ReferenceClipper(model, clip_norm=1.0)
    torch.testing.assert_close(seen.norm, batch.give(oracle).norm, rtol=0.03, atol=0)
    for parameter, expected in oracle.take().items():
        assert sums[parameter].dtype == torch.float32
        assert (sums[parameter] - expected).norm() < 0.05 * expected.norm()


def test_no_noise_and_no_clipping_are_ordinary_training() -> None:
    """Three SGD steps through the clipper end where three ordinary ones end."""
    plain, private = tiny_tuned("llama", "full"), tiny_tuned("llama", "full")
    clipper = make(private, clip_norm=1e9)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (plain, private)]
    for step in range(3):
        batch = make_batch(plain, units=3, tokens=12, seed=step)
        for parameter, gradient in ordinary_gradient(plain, batch).items():
            parameter.grad = gradient
        with clipper.attached():
            batch.give(clipper)
        for parameter, gradient in clipper.take().items():
            parameter.grad = gradient
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for (name, one), other in zip(plain.named_parameters(), private.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("impl", ["bookkeeping", "reference"])
@pytest.mark.parametrize("clipping", ["flat", "per_layer", "automatic"])
def test_no_unit_contributes_more_than_the_bound(impl: Any, clipping: Any) -> None:
    model = tiny_tuned("qwen2", "full")
    clipper = make_clipper(model, clip_norm=0.05, clipping=clipping, impl=impl)
    with clipper.attached():
        for unit in range(4):
            seen = make_batch(model, units=1, tokens=9, rows_per_unit=2, seed=unit).give(clipper)
            length = math.hypot(*(float(total.norm()) for total in clipper.take().values()))
            assert length <= 0.05 * (1 + 1e-5)
            assert length > 0.04 or clipping == "per_layer"
            assert float(seen.norm) > 0.05


def test_nothing_to_learn_from() -> None:
    """No unit, no token, no trained token, no weight: zero norms, zero sums."""
    model = tiny_tuned("llama", "full")
    whole = make_batch(model, units=2, tokens=6)
    blank = torch.full_like(whole.labels, IGNORED)
    for batch in (
        whole.take([]),
        Batch(inputs=whole.inputs, labels=blank, weight=whole.weight),
        Batch(inputs=whole.inputs, labels=whole.labels, weight=torch.zeros(2)),
        Batch(inputs={k: v[:, :1] for k, v in whole.inputs.items()}, labels=whole.labels[:, :1], weight=whole.weight),
    ):
        for clipping in ("flat", "per_layer", "automatic"):
            clipper = make(model, clipping=clipping)
            with clipper.attached():
                seen = batch.give(clipper)
            assert seen.norm.tolist() == [0.0] * len(batch.labels)
            assert seen.loss.tolist() == [0.0] * len(batch.labels)
            taken = clipper.take()
            assert set(taken) == set(model.parameters())
            assert not any(total.any() for total in taken.values())


def test_rows_of_a_unit_are_one_gradient() -> None:
    """A unit of one row twice, at half the weight, is the row; two rows that are two units are not."""
    model = tiny_tuned("llama", "full")
    row = make_batch(model, units=1, tokens=9)
    twice = Batch(
        inputs={k: v.repeat(2, 1) for k, v in row.inputs.items()},
        labels=row.labels.repeat(2, 1),
        weight=row.weight.repeat(2) / 2,
        rows_per_unit=2,
    )
    expected, sums = clip(model, row)
    seen, same = clip(model, twice)
    check_same_seen(seen, expected)
    check_same_sums(model, same, sums)


# ---- what is refused ---------------------------------------------------------------------------------------------


class Tiny(nn.Module):
    """Embedding, one layer of your choice, output matrix."""

    def __init__(self, layer: nn.Module, width: int = 8, vocabulary: int = 20) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = type("Config", (), {"vocab_size": vocabulary, "pad_token_id": 0})()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layer = layer
        self.head = nn.Linear(width, vocabulary)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool = False) -> CausalLMOutput:
        return CausalLMOutput(logits=self.head(self.between(self.embedding(input_ids))))

    def between(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.layer(hidden)


class Doubled(nn.Linear):
    """Looks like a linear layer and is not one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.by


class OddRMSNorm(nn.RMSNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).tanh()


class Held(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.all = nn.ParameterDict({"by": nn.Parameter(torch.ones(8))})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.all["by"]


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (Doubled(8, 8), r"layer \(Doubled: weight, bias\)"),
        (Scale(), r"layer \(Scale: by\)"),
        (OddRMSNorm(8), r"layer \(OddRMSNorm: weight\)"),
        (Held(), r"layer \(Held: all.by\)"),
        (nn.GRU(8, 8), r"layer \(GRU: weight_ih_l0"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), "original0"),
    ],
)
def test_unknown_layers_are_refused_by_name(layer: nn.Module, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        make(Tiny(layer))


def test_unknown_layers_may_be_frozen() -> None:
    model = Tiny(Scale().requires_grad_(False))
    check_against_reference(model)


def test_a_parameter_used_outside_of_its_layer_is_an_error() -> None:
    class Leaky(Tiny):
        def between(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.layer(hidden) + self.layer.bias

    model = Leaky(nn.Linear(8, 8))
    clipper = make(model)
    with clipper.attached(), pytest.raises(BadInput, match=r"layer\.bias"):
        make_batch(model, units=2, tokens=5).give(clipper)


def test_a_layer_that_mixes_rows_is_an_error() -> None:
    class Mixing(Tiny):
        def between(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.layer(hidden.flatten(0, 1)).view(hidden.shape)

    model = Mixing(nn.Linear(8, 8))
    clipper = make(model)
    with clipper.attached(), pytest.raises(Exception, match="rows"):
        make_batch(model, units=2, tokens=5).give(clipper)


def test_a_gradient_that_is_not_finite_is_an_error() -> None:
    model = tiny_tuned("llama", "full")
    with torch.no_grad():
        model.lm_head.weight[3, 3] = math.nan
    for impl in ("bookkeeping", "reference"):
        clipper = make_clipper(model, clip_norm=1.0, impl=impl)  # type: ignore[arg-type]
        with clipper.attached(), pytest.raises(BadInput, match="not finite"):
            make_batch(model, units=2, tokens=5).give(clipper)


# ---- layers that no zoo model has ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(8, 8, bias=False),
        nn.LayerNorm(8, bias=False),
        nn.LayerNorm(8, eps=1e-2),
        nn.RMSNorm(8),
        nn.RMSNorm(8, eps=1e-2),
        nn.Sequential(nn.Linear(8, 300), nn.ReLU(), nn.Linear(300, 8)),
    ],
)
def test_other_layers(layer: nn.Module) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    check_clip(lambda: Tiny(layer))


def test_a_layer_that_is_used_twice() -> None:
    class Shared(Tiny):
        def between(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(hidden).relu())

    check_clip(lambda: Shared(nn.Linear(8, 8)))


def test_a_matrix_that_two_layers_share() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
            self.other.weight = self.one.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.other(self.one(x).tanh())

    check_clip(lambda: Tiny(Pair()))


def test_a_parameter_that_is_not_used() -> None:
    class Idle(Tiny):
        def between(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden

    model = Idle(nn.Linear(8, 8))
    for clipping in ("flat", "per_layer", "automatic"):
        check_against_reference(model, clipping=clipping)


def test_a_frozen_weight_under_a_trained_bias() -> None:
    model = Tiny(nn.Linear(8, 8))
    model.requires_grad_(False)
    model.layer.bias.requires_grad_(True)
    check_clip(lambda: model)


# ---- the harness ---------------------------------------------------------------------------------------------------


class Faulty(BookkeepingClipper):
    """Forgets one parameter, scales another, in the sums only."""

    def take(self) -> dict[nn.Parameter, torch.Tensor]:
        sums = super().take()
        names = dict(self.model.named_parameters())
        sums[names["model.norm.weight"]].zero_()
        sums[names["model.layers.0.mlp.up_proj.weight"]].mul_(1.001)
        return sums


class Deaf(BookkeepingClipper):
    """Reports norms that leave out a thousandth."""

    def accumulate(self, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, **kwargs: Any) -> Clipped:
        seen = super().accumulate(inputs, labels, **kwargs)
        return Clipped(norm=seen.norm * 0.999, loss=seen.loss)


def test_the_harness_names_all_that_fails() -> None:
    model = tiny_of_family("llama").requires_grad_(True)
    with pytest.raises(AssertionError) as caught:
        check_against_reference(model, make=Faulty)
    assert "2 of 20 parameters" in str(caught.value)
    assert "model.norm.weight" in str(caught.value)
    assert "model.layers.0.mlp.up_proj.weight" in str(caught.value)
    with pytest.raises(AssertionError, match="norm"):
        check_against_reference(model, make=Deaf)


def make(model: Any, *, clip_norm: float = 1.0, clipping: Any = "flat") -> BookkeepingClipper:
    return BookkeepingClipper(model, clip_norm=clip_norm, clipping=clipping, autocast=None)
