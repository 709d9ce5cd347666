# SPDX-License-Identifier: Apache-2.0
"""A small model that goes ahead changes what is read, never what is written."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from reticent.models.blended_logits import ABSENT
from reticent.models.emulated import EmulatedModel, Reading
from reticent.models.emulation import EmulationConfig
from reticent.score.generation import generate as generating
from reticent.score.generation import speculative
from reticent.score.generation.drawing import make_lines
from reticent.score.generation.generate import GREEDY, Scheme, generate
from reticent.score.generation.speculative import can_draft, write_drafted
from reticent.testing.tiny import tiny_model, tiny_of_family, tiny_tokenizer, tiny_tuned

PREFIX = [5, 70, 33, 200, 9]
SCHEMES = (GREEDY, Scheme(), Scheme(temperature=0.7, top_k=20, top_p=0.9))


def ensemble(*, apart: float = 0.3, small_id: torch.Tensor | None = None, **config: Any) -> EmulatedModel:
    """A large model that is not far from the small ones, so that some proposals are taken and some are not."""
    base = tiny_model(seed=0)
    large, tuned = copy.deepcopy(base), copy.deepcopy(base)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for model, by in ((large, apart), (tuned, 0.03)):
            for weight in model.parameters():
                weight.add_(by * weight.std() * torch.randn(weight.shape, generator=generator))
    readings = [Reading(model.eval()) for model in (large, tuned, base)]
    return EmulatedModel(readings[0], readings[1], readings[2], EmulationConfig(**config), small_id=small_id)


def drafted(model: EmulatedModel, scheme: Scheme, *, limit: int = 24, seed: int = 0, ends: tuple[int, ...] = ()) -> Any:
    (line,) = make_lines(model, [PREFIX], limit, 1, scheme, seed, None)
    with torch.inference_mode():
        return line, write_drafted(model, line, scheme, frozenset(ends))


def plain(model: EmulatedModel, scheme: Scheme, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(generating, "can_draft", lambda model: False)
        given: dict[str, Any] = {"max_new_tokens": 24, "stop": ()} | more
        return generate(model, tiny_tokenizer(), [PREFIX], scheme=scheme, **given)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("config", [{}, {"beta": 0.5, "cap": 0.5}, {"beta": 2.0, "top_p": 0.8}], ids=str)
def test_the_texts_are_those_without_it(
    scheme: Scheme, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ensemble(**config)
    for seed in range(2):
        line, count = drafted(model, scheme, seed=seed)
        truth = plain(model, scheme, monkeypatch, seed=seed)
        assert line.token_id == truth.token_id.tolist()
        assert np.abs(np.array(line.logp) - truth.logp).max() < 1e-4
        assert 0 < count.accepted <= count.proposed


def test_tokens_are_drawn_by_the_ensembles_own_probabilities() -> None:
    """Share of each first and second token over many seeds, against the exact distribution of pairs."""
    model, scheme = ensemble(beta=0.5), Scheme(top_k=3)
    pairs: dict[tuple[int, int], int] = {}
    trials = 100
    for seed in range(trials):
        line, count = drafted(model, scheme, limit=3, seed=seed)
        assert count.proposed == 1
        first, second, _ = line.token_id
        pairs[first, second] = pairs.get((first, second), 0) + 1
    with torch.inference_mode():
        for (first, second), number in pairs.items():
            chance = 1.0
            for text, token in ((PREFIX, first), ([*PREFIX, first], second)):
                logits = model(input_ids=torch.tensor([text])).logits[0, -1]
                best = logits.topk(3)
                chance *= float(best.values.softmax(0)[best.indices.tolist().index(token)])
            spread = (trials * chance * (1 - chance)) ** 0.5
            assert abs(number - trials * chance) < 4.5 * spread + 1


@pytest.mark.parametrize("scheme", SCHEMES[:2], ids=str)
def test_a_small_model_that_proposes_nonsense_costs_time_alone(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ensemble()
    monkeypatch.setattr(speculative, "_propose", lambda drafter, text, ahead, *rest: [7] * ahead)
    line, count = drafted(model, scheme)
    assert count.accepted < count.proposed
    assert line.token_id == plain(model, scheme, monkeypatch).token_id.tolist()


def test_a_proposal_that_is_taken_unseen_is_seen_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: what the small model proposes is written without a look at what the ensemble draws."""
    model = ensemble(apart=1.0)
    take = speculative._take

    def unseen(line: Any, tokens: Any, logits: Any, ends: Any) -> bool:
        return take(line, [7] * len(tokens), logits, ends)

    monkeypatch.setattr(speculative, "_take", unseen)
    line, _ = drafted(model, GREEDY)
    assert line.token_id != plain(model, GREEDY, monkeypatch).token_id.tolist()


def test_a_text_ends_where_it_ends_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ensemble()
    whole, _ = drafted(model, GREEDY)
    for end in (whole.token_id[0], whole.token_id[9]):
        line, _ = drafted(model, GREEDY, ends=(end,))
        truth = plain(model, GREEDY, monkeypatch, stop=(end,))
        assert (line.token_id, line.stopped) == (truth.token_id.tolist(), True)
        assert end not in line.token_id
    for limit in (1, 2, 3):
        line, _ = drafted(model, GREEDY, limit=limit)
        assert (line.token_id, line.stopped) == (whole.token_id[:limit], False)


def test_generate_lets_it_go_ahead_in_a_text_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model, counts = ensemble(), list[Any]()

    def counted(*given: Any) -> Any:
        counts.append(write_drafted(*given))
        return counts[-1]

    monkeypatch.setattr(generating, "write_drafted", counted)
    alone = generate(model, tiny_tokenizer(), [PREFIX], max_new_tokens=12, stop=())
    assert counts[0].accepted > 0
    together = generate(model, tiny_tokenizer(), [PREFIX] * 2, max_new_tokens=12, stop=())
    assert len(counts) == 1
    assert together.token_id[:12].tolist() == alone.token_id.tolist()


def test_an_adapter_on_the_base_and_other_numbers_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned, large = tiny_tuned("llama", "lora"), tiny_of_family("llama", seed=4)
    numbers = torch.arange(len(tiny_tokenizer()))
    numbers[[40, 41, 42]] = torch.tensor([41, 40, ABSENT])
    for small_id in (None, numbers):
        beneath = Reading(tuned, off=True)
        model = EmulatedModel(Reading(large), Reading(tuned), beneath, EmulationConfig(), small_id=small_id)
        line, _ = drafted(model, Scheme(), limit=12)
        assert line.token_id == plain(model, Scheme(), monkeypatch, max_new_tokens=12).token_id.tolist()


def test_what_cannot_be_taken_back_is_written_in_the_ordinary_way(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_of_family("gemma3")  # windows, whose caches forget
    tuned = tiny_of_family("gemma3", seed=2)
    model = EmulatedModel(Reading(tiny_of_family("gemma3", seed=1)), Reading(tuned), Reading(base), EmulationConfig())
    assert can_draft(model)
    line, count = drafted(model, GREEDY, limit=6)
    assert (count, line.token_id) == (None, [])
    written = generate(model, tiny_tokenizer(), [PREFIX], max_new_tokens=6, stop=())
    assert written.token_id.tolist() == plain(model, GREEDY, monkeypatch, max_new_tokens=6).token_id.tolist()
    with model.large_alone():
        assert not can_draft(model)
    assert not can_draft(base)
