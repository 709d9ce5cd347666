# SPDX-License-Identifier: Apache-2.0
"""How much one unit can add to a clipped sum, in clip norms: a search for the worst case.

The clip norm bounds what a unit adds in exact arithmetic. Here hostile inputs look for more than that in the arithmetic
that runs: texts that repeat themselves (tokens nearly cancel, and their rounding does not), many units that all pull
the same way (a sum of 256 clip norms, of which one unit must still move only its own), gradients close to the clip norm
and far above it, and very small and very large scales. `worst_of_model` goes through a model, so through the layer
rules that it uses; `worst_of_outer` through one layer's products, which can be made worse than a text makes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from reticent.privacy.clip.clipper import Clipping
from reticent.privacy.clip.make import make_clipper
from reticent.privacy.clip.tape import Tape

PERIODS = (1, 2, 3, 7)
"""A text of period p repeats its first p tokens; beside these there is a text that does not repeat itself."""
STRETCHES = (0.5, 1.001, 3.0, 1e4)
"""Lengths of a unit's gradient, in clip norms."""


def worst_of_model(
    model: Any,
    *,
    autocast: torch.dtype | None,
    clipping: Clipping = "flat",
    tokens: Sequence[int] = (8, 48),
    company: Sequence[int] = (1, 64),
    clip_norms: Sequence[float] = (1.0,),
    seed: int = 0,
) -> float:
    """The most that one unit changed the sum of a clipper, over the clip norm.

    Args:
        model: a causal language model with ``requires_grad`` on what is trained.
        autocast: dtype of the activations, or None.
        clipping: see ``make_clipper``.
        tokens: lengths of the texts.
        company: how many units there are, the one that goes and comes included; all have the same text.
        clip_norms: which to try.
        seed: of the texts.
    """
    worst = 0.0
    for text in _texts(model.config.vocab_size, tokens, seed):
        for clip_norm in clip_norms:
            gradient = float(_length(_added(model, text, [1.0], autocast, "flat", math.inf)))
            for stretch in STRETCHES:
                weight = stretch * clip_norm / gradient
                for units in company:
                    with_it = _added(model, text, [weight] * units, autocast, clipping, clip_norm)
                    without = _added(model, text, [weight] * (units - 1), autocast, clipping, clip_norm)
                    moved = {p: with_it[p] - without[p] for p in with_it}
                    worst = max(worst, float(_length(moved)) / clip_norm)
    return worst


def worst_of_outer(
    *, dtype: torch.dtype, units: int, tokens: int, left: int, right: int, draws: int, seed: int = 0
) -> float:
    """The same for one linear layer's products ``[units, tokens, left]`` and ``[units, tokens, right]``.

    Tokens are a few vectors over and over, with signs and sizes that let their sum nearly cancel; all units are alike,
    so that they pull the same way.
    """
    draw = torch.Generator().manual_seed(seed)
    worst = 0.0
    for number in range(draws):
        period = int(torch.randint(1, 5, (), generator=draw))
        scale = 10.0 ** float(torch.randint(-3, 4, (), generator=draw))
        cancel = [0.0, 0.9, 0.99, 0.999][number % 4]
        base_left, base_right = torch.randn(period, left, generator=draw), torch.randn(period, right, generator=draw)
        sign = torch.where(torch.arange(tokens) % 2 == 0, 1.0, -cancel)
        place = torch.arange(tokens) // 2 % period
        one_left = (base_left[place] * sign[:, None] * scale).to(dtype)
        one_right = (base_right[place] / scale).to(dtype)
        worst = max(worst, _worst_of_layer(one_left, one_right, units))
    return worst


def _worst_of_layer(left: torch.Tensor, right: torch.Tensor, units: int) -> float:
    """Clip ``units`` copies of one unit to a length that they all exceed; what the last of them moves, over it."""
    exact = left.double().t() @ right.double()
    clip_norm = float(exact.norm()) / 1.5
    if clip_norm == 0:
        return 0.0
    totals = []
    for count in (units, units - 1):
        weight = nn.Parameter(torch.zeros(left.shape[1], right.shape[1]))
        total = {weight: torch.zeros_like(weight, dtype=torch.float32)}
        if count:
            tape = Tape(rows=count, rows_per_unit=1, dtype=None)
            tape.outer(weight, left.expand(count, -1, -1).contiguous(), right.expand(count, -1, -1).contiguous())
            upper = tape.uppers(tape.squares())[weight]
            tape.add_clipped(total, {weight: (clip_norm / upper).clamp(max=1)})
        totals.append(total[weight].detach().double())
    return float((totals[0] - totals[1]).norm()) / clip_norm


def _texts(vocabulary: int, tokens: Sequence[int], seed: int) -> Iterator[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    for length in tokens:
        for period in (*PERIODS, length):
            if period <= length:
                yield torch.randint(vocabulary, (period,), generator=draw).repeat(-(-length // period))[:length]


def _added(
    model: Any,
    text: torch.Tensor,
    weights: Sequence[float],
    autocast: torch.dtype | None,
    clipping: Clipping,
    clip_norm: float,
) -> Mapping[nn.Parameter, torch.Tensor]:
    """Float64 sums of units that all have this text."""
    clipper = make_clipper(model, clip_norm=clip_norm, clipping=clipping, autocast=autocast)
    ids = text.expand(len(weights), -1)
    with clipper.attached():
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        clipper.accumulate(inputs, ids, weight=torch.tensor(weights, dtype=torch.float32))
    return {p: total.double() for p, total in clipper.take().items()}


def _length(sums: Mapping[nn.Parameter, torch.Tensor]) -> torch.Tensor:
    return torch.stack([total.norm() for total in sums.values()]).norm()
