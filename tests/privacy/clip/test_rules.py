# SPDX-License-Identifier: Apache-2.0
"""Layer rules: which layers are known, which are refused, and that those known are right at any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from reticent.core.errors import BadInput
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.reference import ReferenceClipper
from reticent.testing.clip_conformance import (
    check_against_reference,
    check_clip,
    check_same_seen,
    check_same_sums,
    clip,
    make_batch,
)


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


class Zero(Doubled):
    """Its own weights would not tell."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class Noisy(nn.Linear):
    """A linear layer in evaluation, and in training not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + 0.1 * torch.randn_like(x) if self.training else x)


class OddLayerNorm(nn.LayerNorm):
    """Adds its eps to the deviation: as good as the same where numbers are large."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True).sqrt() + self.eps) * self.weight + self.bias


class ByHand(nn.Linear):
    """A linear layer that says so in other words."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T + self.bias


class OneMore(nn.LayerNorm):
    """Nemotron's: ``1 + w`` in place of ``w``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x, self.normalized_shape, 1 + self.weight, self.bias, self.eps)


class HeadLayerNorm(nn.Module):
    """Cohere's: no bias, a weight for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(2, 4)), 1e-5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = x
        centred = heads - heads.mean(-1, keepdim=True)
        return self.weight * centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.variance_epsilon)


class ByHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = HeadLayerNorm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.unflatten(-1, (2, 4))).flatten(-2)


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
        (Zero(8, 8), r"layer \(Zero: weight, bias\)"),
        (Noisy(8, 8), r"layer \(Noisy: weight, bias\)"),
        (OddLayerNorm(8), r"layer \(OddLayerNorm: weight, bias\)"),
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


@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}])
def test_an_embedding_that_mixes_records_is_refused(option: dict[str, Any]) -> None:
    model = Tiny(nn.Linear(8, 8))
    model.embedding = nn.Embedding(20, 8, **option)
    with pytest.raises(BadInput, match="embedding"):
        clip(model, make_batch(model, units=2, tokens=6))


class Positions(nn.Embedding):
    """Looks up places with an offset, scaled, and none of padding: written out by keyword."""

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        places = torch.arange(index.shape[1])[None] + 2
        return 3 * nn.functional.embedding(weight=self.weight, input=places, padding_idx=-1) + nn.functional.embedding(
            index, self.weight
        )


class Leaky(nn.Embedding):
    """Uses its weight beside the look-up too."""

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        return super().forward(index) + self.weight.mean(0)


def test_an_embedding_of_another_class_is_looked_into() -> None:
    model = Tiny(nn.Linear(8, 8))
    model.embedding = Positions(45, 8, padding_idx=7)
    check_clip(lambda: model)


def test_an_embedding_that_does_more_than_look_up_is_an_error() -> None:
    model = Tiny(nn.Linear(8, 8))
    model.embedding = Leaky(20, 8)
    with pytest.raises(BadInput, match=r"embedding\.weight.*not clipped"):
        clip(model, make_batch(model, units=2, tokens=6))


def test_an_embedding_with_one_index_for_all_is_an_error() -> None:
    class Shared(nn.Embedding):
        def forward(self, index: torch.Tensor) -> torch.Tensor:
            return super().forward(index) + super().forward(torch.arange(index.shape[1]))

    model = Tiny(nn.Linear(8, 8))
    model.embedding = Shared(45, 8)
    with pytest.raises(BadInput, match="one index for all"):
        clip(model, make_batch(model, units=6, tokens=6))


# ---- what is left behind -------------------------------------------------------------------------------------------


def test_a_model_is_as_before_after_an_error() -> None:
    model = Tiny(nn.Linear(8, 8))
    clipper = make(model)
    with pytest.raises(KeyError), clipper.attached():
        assert "forward" in vars(model.head)
        raise KeyError
    assert "forward" not in vars(model.head)


def test_a_layer_whose_forward_was_replaced_is_refused() -> None:
    model = Tiny(nn.Linear(8, 8))
    model.layer.forward = lambda x: nn.Linear.forward(model.layer, 2 * x)  # as offloading and fused kernels put there
    with pytest.raises(BadInput, match="layer"):
        make(model)


# ---- layers that no zoo model has ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(8, 8, bias=False),
        nn.LayerNorm(8, bias=False),
        nn.LayerNorm(8, eps=1e-2),
        ByHand(8, 8),
        OneMore(8),
        ByHead(),
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


@settings(deadline=None, max_examples=15)
@given(
    units=st.integers(0, 4),
    rows_per_unit=st.integers(1, 4),
    tokens=st.integers(1, 20),
    width=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_any_shape(units: int, rows_per_unit: int, tokens: int, width: int, seed: int) -> None:
    """An embedding tied to the output matrix, and a layer between, of any size."""
    model = Tiny(nn.Linear(width, width), width=width)
    model.head.weight = model.embedding.weight
    batch = make_batch(model, units=units, rows_per_unit=rows_per_unit, tokens=tokens, seed=seed)
    oracle = ReferenceClipper(model, clip_norm=1.0)
    seen, sums = clip(model, batch)
    check_same_seen(seen, batch.give(oracle))
    check_same_sums(model, sums, oracle.take())


def make(model: Any, *, clip_norm: float = 1.0, clipping: Any = "flat") -> BookkeepingClipper:
    return BookkeepingClipper(model, clip_norm=clip_norm, clipping=clipping, autocast=None)
