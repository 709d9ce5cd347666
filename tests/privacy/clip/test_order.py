# SPDX-License-Identifier: Apache-2.0
"""Flattened rows are taken apart where they are certainly those of the batch, in order, and refused anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from reticent.core.errors import BadInput
from reticent.privacy.clip.bookkeeping import BookkeepingClipper
from reticent.privacy.clip.order import in_order
from reticent.testing.clip_conformance import check_against_reference, check_clip, make_batch

ROWS, TOKENS, WIDTH = 3, 5, 4


class Flat(nn.Module):
    """Embedding, two layers that read what ``route`` makes of the hidden states ``[B, T, D]``, output matrix."""

    def __init__(self, route: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = type("Config", (), {"vocab_size": 20, "pad_token_id": 0})()
        self.route = route
        self.embedding, self.norm = nn.Embedding(20, 8), nn.LayerNorm(8)
        self.one, self.two, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 20)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool = False) -> CausalLMOutput:
        hidden = self.embedding(input_ids)
        rows = self.route(hidden)
        rows = self.two(torch.relu(self.one(self.norm(rows))))
        return CausalLMOutput(logits=self.head(hidden + rows.view(hidden.shape)))


def flattened(hidden: torch.Tensor) -> torch.Tensor:
    return hidden.reshape(-1, hidden.shape[-1])


def permuted(hidden: torch.Tensor) -> torch.Tensor:
    """As many rows as the batch has tokens, another's in each place: an expert that happens to get all of them."""
    rows = flattened(hidden)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]


def selected(hidden: torch.Tensor) -> torch.Tensor:
    rows = flattened(hidden)
    return rows.index_select(0, torch.arange(len(rows)).flip(0))


def tokens_first(hidden: torch.Tensor) -> torch.Tensor:
    return hidden.transpose(0, 1).reshape(-1, hidden.shape[-1])


class _Rolled(torch.autograd.Function):
    """Mixes rows where no index can be seen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.roll(1, 0)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> torch.Tensor:
        return outer[0].roll(-1, 0)


def by_a_matrix(hidden: torch.Tensor) -> torch.Tensor:
    rows = flattened(hidden)
    return torch.eye(len(rows)).roll(1, 0) @ rows


def as_many_as_records(hidden: torch.Tensor) -> torch.Tensor:
    """As many rows as records, all of one record."""
    rows = flattened(hidden)[: len(hidden)]
    return torch.cat([rows * 1.0] * hidden.shape[1]).reshape(-1, hidden.shape[-1])


def test_rows_in_order_are_taken_apart() -> None:
    check_clip(lambda: Flat(flattened))


def test_parts_of_rows_are_taken_apart() -> None:
    """Flattened twice, with numbers in between that go through each by itself."""
    check_against_reference(Flat(lambda x: torch.tanh(flattened(x) * 2).view(x.shape).reshape(-1, x.shape[-1])))


@pytest.mark.parametrize(
    "route",
    [permuted, selected, tokens_first, lambda x: _Rolled.apply(flattened(x)), by_a_matrix, as_many_as_records],
)
def test_rows_that_may_be_another_record_s_are_refused(route: Any) -> None:
    """Each gives as many rows as the batch has tokens."""
    model = Flat(route)
    clipper = BookkeepingClipper(model, clip_norm=1.0, clipping="flat", autocast=None)
    with clipper.attached(), pytest.raises(BadInput, match=r"LayerNorm that reads \d+ rows"):
        make_batch(model, units=ROWS, tokens=TOKENS).give(clipper)


def leaf() -> torch.Tensor:
    return torch.randn(ROWS, TOKENS, WIDTH, requires_grad=True)


def test_what_is_certain() -> None:
    weight, bias = nn.Parameter(torch.ones(WIDTH, 7)), nn.Parameter(torch.ones(7))
    flat = leaf().reshape(-1, WIDTH)
    for x in (
        flat,
        leaf().view(-1, WIDTH // 2),
        torch.relu(flat) * flat + 1,
        flat @ weight,
        torch.addmm(bias, flat, weight),
        nn.functional.dropout(flat, 0.5),
        nn.functional.layer_norm(flat, (WIDTH,)),
        leaf().transpose(1, 2).reshape(-1, TOKENS),  # not of the first dimension, which is the batch
    ):
        assert in_order(x, ROWS)


def test_what_is_not() -> None:
    flat, other = leaf().reshape(-1, WIDTH), torch.randn(ROWS * TOKENS, ROWS * TOKENS)
    once = torch.randn(ROWS * TOKENS, WIDTH, requires_grad=True)
    for x in (
        flat.detach(),  # no gradient, no graph
        once * 1,  # never had a batch
        once.view(ROWS * TOKENS * 2, -1),
        flat.flip(0),
        flat + flat.flip(0),
        other @ flat,
        flat[:ROWS],
        flat.view(-1)[torch.arange(flat.numel())].view(-1, WIDTH),
        leaf().transpose(0, 1).reshape(-1, WIDTH),
        nn.functional.layer_norm(flat, tuple(flat.shape)),
        flat.cumsum(0),
        leaf(),  # three dimensions: not flattened
    ):
        assert not in_order(x, ROWS)
    assert not in_order(flat, ROWS + 1)
