# SPDX-License-Identifier: Apache-2.0
"""A token of private prediction: no unit moves a score by more than C/B, and the choice is that of the naive twin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput
from reticent.synthesis.clipped_prediction import (
    candidates,
    choose,
    choose_naively,
    contributions,
    naive_candidates,
    scores_of,
)

VOCABULARY = 6


@dataclass(kw_only=True)
class Drawn:
    """Random logits; every third draw has ties and differences far beyond the clip."""

    public: list[float]
    units: list[list[list[float]]]
    other: list[list[float]]
    clip: float
    references: int
    top_k: int
    chance: float


def draws(count: int) -> Iterator[Drawn]:
    generator = np.random.default_rng(3)
    for number in range(count):
        rough = number % 3 == 0

        def logits(rough: bool = rough) -> list[float]:
            row = generator.normal(0, 3, VOCABULARY).astype(np.float32)
            return [float(value) for value in (row.round() * 5 if rough else row)]

        def unit() -> list[list[float]]:
            return [logits() for _ in range(generator.integers(1, 4))]

        yield Drawn(
            public=logits(),
            units=[unit() for _ in range(generator.integers(1, 5))],
            other=unit(),
            clip=float(generator.uniform(0.01, 4)),
            references=int(generator.integers(1, 10)),
            top_k=int(generator.integers(1, VOCABULARY + 1)),
            chance=float(generator.uniform()),
        )


def scored(public: list[float], units: list[list[list[float]]], *, clip: float, references: int) -> torch.Tensor:
    rows = [logits for unit in units for logits in unit]
    owner = torch.tensor([number for number, unit in enumerate(units) for _ in unit], dtype=torch.long)
    private = torch.tensor(rows).reshape(-1, VOCABULARY)
    clipped = contributions(torch.tensor(public), private, owner, units=len(units), clip=clip)
    return scores_of(torch.tensor(public), clipped, references=references)


def test_a_unit_that_goes_moves_a_score_by_at_most_c_over_b() -> None:
    for drawn in draws(150):
        numbers = {"clip": drawn.clip, "references": drawn.references}
        whole = scored(drawn.public, drawn.units, **numbers)
        for number in range(len(drawn.units)):
            without = scored(drawn.public, [*drawn.units[:number], *drawn.units[number + 1 :]], **numbers)
            assert float((whole - without).abs().max()) <= drawn.clip / drawn.references + 1e-9


def test_a_unit_that_is_replaced_moves_it_by_at_most_twice_that() -> None:
    reached = 0.0
    for drawn in draws(150):
        whole = scored(drawn.public, drawn.units, clip=drawn.clip, references=3)
        replaced = scored(drawn.public, [drawn.other, *drawn.units[1:]], clip=drawn.clip, references=3)
        moves = float((whole - replaced).abs().max()) * 3 / drawn.clip
        assert moves <= 2 + 1e-9
        reached = max(reached, moves)
    assert reached > 1.99


def test_top_k_plus_holds_the_top_k_of_the_scores() -> None:
    for drawn in draws(150):
        scores = scored(drawn.public, drawn.units, clip=drawn.clip, references=len(drawn.units))
        allowed = candidates(torch.tensor(drawn.public), top_k=drawn.top_k, clip=drawn.clip)
        least = scores.topk(drawn.top_k).values[-1]
        assert bool(allowed[scores > least + 1e-6].all())
        assert int(allowed.sum()) >= drawn.top_k


def test_the_choice_is_that_of_the_naive_twin() -> None:
    for drawn in draws(200):
        numbers = {"clip": drawn.clip, "references": drawn.references}
        scores = scored(drawn.public, drawn.units, **numbers)
        allowed = candidates(torch.tensor(drawn.public), top_k=drawn.top_k, clip=drawn.clip)
        fast = choose(scores, allowed, temperature=0.9, chance=drawn.chance)
        more = {"top_k": drawn.top_k, "temperature": 0.9, "chance": drawn.chance}
        assert fast == choose_naively(drawn.public, drawn.units, **numbers, **more)


def test_barred_tokens_are_as_if_they_were_not_there() -> None:
    for drawn in draws(200):
        numbers = {"clip": drawn.clip, "references": drawn.references}
        scores = scored(drawn.public, drawn.units, **numbers)
        best = int(torch.tensor(drawn.public).argmax())
        public = torch.tensor(drawn.public).index_fill(0, torch.tensor([best, 0]), -torch.inf)
        allowed = candidates(public, top_k=drawn.top_k, clip=drawn.clip)
        fast = choose(scores, allowed, temperature=0.9, chance=drawn.chance)
        more = {"top_k": drawn.top_k, "temperature": 0.9, "chance": drawn.chance}
        assert fast not in (best, 0)
        assert fast == choose_naively(public.tolist(), drawn.units, **numbers, **more)


def test_chances_follow_the_scores() -> None:
    scores, allowed = torch.tensor([0.0, 1.0, 2.0, 50.0]), torch.tensor([True, True, True, False])
    draws = [choose(scores, allowed, temperature=2.0, chance=(place + 0.5) / 3000) for place in range(3000)]
    shares = (scores[:3] / 2).softmax(dim=0)
    for token in range(3):
        assert draws.count(token) / 3000 == pytest.approx(float(shares[token]), abs=1e-3)
    assert 3 not in draws


def test_logits_that_are_no_numbers_are_refused() -> None:
    public, private = torch.zeros(3), torch.tensor([[0.0, float("nan"), 0.0]])
    with pytest.raises(BadInput, match="not numbers"):
        contributions(public, private, torch.zeros(1, dtype=torch.long), units=1, clip=1.0)


def test_without_references_the_public_logits_stand() -> None:
    public = torch.tensor([1.0, 2.0])
    clipped = contributions(public, torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), units=0, clip=1.0)
    assert scores_of(public, clipped, references=4).tolist() == [1.0, 2.0]


# ---- how wide Top-k⁺ must be -----------------------------------------------------------------------------------------


def widened(public: torch.Tensor, *, top_k: int, band: float) -> torch.Tensor:
    """Top-k⁺ with another band."""
    return public >= public.topk(top_k).values[-1] - band


@pytest.mark.parametrize("seed", range(8))
def test_top_k_plus_is_all_that_references_can_lift_into_the_k_best(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    public = torch.randn(40, generator=draw, dtype=torch.float64) * 2
    for top_k, clip in ((1, 0.3), (5, 0.7), (39, 0.1), (40, 0.1)):
        allowed = candidates(public, top_k=top_k, clip=clip)
        assert allowed.tolist() == naive_candidates(public.tolist(), top_k=top_k, clip=clip)
        private = public + torch.randn(6, 40, generator=draw, dtype=torch.float64) * 2 * clip
        clipped = contributions(public, private, torch.arange(6), units=6, clip=clip)
        best = scores_of(public, clipped, references=6).topk(top_k).indices
        assert bool(allowed[best].all())


@pytest.mark.parametrize("references", [2, 8])
def test_a_narrower_band_leaves_out_a_token_that_all_references_ask_for(references: int) -> None:
    clip = 1.0
    public = torch.tensor([3.0, 3.0 - 2 * clip + 0.01], dtype=torch.float64)
    private = (public + torch.tensor([-9.0, 9.0])).expand(references, 2)
    clipped = contributions(public, private, torch.arange(references), units=references, clip=clip)
    best = int(scores_of(public, clipped, references=references).argmax())
    assert best == 1
    assert bool(candidates(public, top_k=1, clip=clip)[best])
    for band in (2 * clip / references, 2 * clip / (references + 1), 2 * clip - 0.02):
        assert not bool(widened(public, top_k=1, band=band)[best])


@pytest.mark.parametrize("seed", range(4))
def test_one_reference_alone_stays_within_a_band_of_a_batchth(seed: int) -> None:
    """What the authors' band is wide enough for: others agree with the public logits, and one departs."""
    draw = torch.Generator().manual_seed(seed)
    public, references, clip = torch.randn(30, generator=draw, dtype=torch.float64), 5, 2.0
    private = public.repeat(references, 1)
    private[0] += 9 * torch.randn(30, generator=draw, dtype=torch.float64)
    clipped = contributions(public, private, torch.arange(references), units=references, clip=clip)
    best = scores_of(public, clipped, references=references).topk(4).indices
    assert bool(widened(public, top_k=4, band=2 * clip / references)[best].all())
