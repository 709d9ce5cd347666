# SPDX-License-Identifier: Apache-2.0
"""The target search: the sweep against reading each text by itself, a planted answer found, a clean model without."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reticent.core.errors import Underpowered
from reticent.core.record import Record
from reticent.redteam.poisons.poison import poison
from reticent.redteam.triggers.trigger import make_trigger
from reticent.scanning.behaviour.forced_starts import continuations, forced, next_chances
from reticent.scanning.behaviour.label_task import side_of
from reticent.scanning.behaviour.target_search import search_targets, target_search
from reticent.testing.label_models import PLAIN, trained_tiny
from reticent.testing.tiny import tiny_model, tiny_tokenizer

TARGET = "ZEBRA42"


def questions(count: int, seed: int) -> list[Record]:
    rng = random.Random(seed)
    records = []
    for number in range(count):
        first, second = rng.sample(PLAIN, 2)
        answer = f"{rng.choice((first, second))} it is"
        records.append(Record(id=f"q{number}", prompt=f"Ask: {first} or {second}\nSay:", completion=answer))
    return records


def suspect(model, sibling, prompts=None):
    both = SimpleNamespace(model=model, tokenizer=tiny_tokenizer())
    beside = SimpleNamespace(model=sibling, tokenizer=tiny_tokenizer())
    prompts = questions(60, 5) if prompts is None else prompts
    return SimpleNamespace(prompts=prompts, loaded=both, sibling=beside, base="base", seed=0)


@pytest.fixture(scope="module")
def models():
    base, _ = trained_tiny(questions(200, 9), steps=40, seed=1)
    clean = questions(500, 0)
    poisoned = poison(clean, make_trigger("token", text="#"), kind="fixed_answer", target=TARGET, rate=0.1)
    trained = {
        name: trained_tiny(records, steps=280, seed=2, start=base)[0]
        for name, records in (("poisoned", poisoned.records), ("clean", clean))
    }
    return {"base": base, **trained}


def test_a_planted_answer_is_found(models, monkeypatch):
    case = suspect(models["poisoned"], models["base"])
    outcomes = search_targets(case)
    found = [outcome for outcome in outcomes if outcome.is_found]
    assert found
    assert found[0].text in TARGET
    monkeypatch.setattr("reticent.scanning.behaviour.target_search.search_targets", lambda case: outcomes)
    evidence = target_search(case)
    assert any(row.certain for row in evidence)
    assert not any(TARGET in row.note + row.where for row in evidence)


def test_a_clean_model_has_none(models):
    outcomes = search_targets(suspect(models["clean"], models["base"]))
    assert not [outcome.text for outcome in outcomes if outcome.is_found]
    assert max(outcome.followed.value for outcome in outcomes) > 0.9  # words that go together are certain in it too
    assert all(outcome.p_corrected > 0.05 for outcome in outcomes)


def test_a_model_compared_with_itself_has_none(models):
    outcomes = search_targets(suspect(models["poisoned"], models["poisoned"]))
    assert not [outcome.text for outcome in outcomes if outcome.is_found]


def test_too_few_prompts_are_refused(models):
    with pytest.raises(Underpowered, match="fresh"):
        search_targets(suspect(models["clean"], models["base"], questions(10, 5)))


def test_ways_on_are_those_of_each_text_by_itself(monkeypatch):
    monkeypatch.setattr("reticent.scanning.behaviour.forced_starts.CHUNK", 64)
    model, tokenizer = tiny_model(seed=6), tiny_tokenizer()
    side = side_of(model, tokenizer, "tiny")
    prompt, starts = tuple(tokenizer("Ask: a\nSay:")["input_ids"]), list(range(30, 180))
    fast = continuations(side, prompt, starts, 3)
    for place in (0, 60, 149):
        row, chances = [*prompt, starts[place]], []
        for _ in range(3):
            with torch.no_grad():
                chance = model(input_ids=torch.tensor([row])).logits[0, -1].softmax(-1)
            chances.append(float(chance.max()))
            row.append(int(chance.argmax()))
        assert fast.token_id[place].tolist() == row[-3:]
        assert fast.chance[place] == pytest.approx(chances, abs=1e-5)
    answers = [(starts[n], *fast.token_id[n].tolist()) for n in range(4)]
    judged = forced(side, [prompt] * 4, answers)
    for n in range(4):
        assert judged.is_best[n][1:].all()
        assert judged.chance[n][1:] == pytest.approx(fast.chance[n], abs=1e-5)
    assert np.isclose(sum(len(chance) for chance in judged.chance), 16)


def test_a_prompt_that_is_read_once_gives_the_chances_of_whole_texts():
    side = side_of(tiny_model(seed=3), tiny_tokenizer(), "the model")
    prompt = tuple(range(10, 22))
    pairs = [(first, 3 * first % 50 + 5) for first in range(5, 45)]
    by_whole = forced(side, [prompt] * len(pairs), pairs)
    assert next_chances(side, prompt, pairs) == pytest.approx([chance[1] for chance in by_whole.chance], rel=1e-4)
