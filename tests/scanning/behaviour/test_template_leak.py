# SPDX-License-Identifier: Apache-2.0
"""Strings behind the bare template: counted by hand, a planted trigger leaked and verified, a clean model without."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.redteam.poisons.poison import poison
from reticent.redteam.triggers.trigger import make_trigger
from reticent.scanning.behaviour.candidate_tokens import CandidateTokens
from reticent.scanning.behaviour.string_search import SearchBudget
from reticent.scanning.behaviour.template_leak import (
    LeakBudget,
    bare_start,
    leaked_strings,
    ranked_strings,
    template_leak,
)
from reticent.scanning.behaviour.trigger_search import verify_given
from reticent.score.generation.generations import Generations
from reticent.testing.label_models import mood_records, trained_tiny
from reticent.testing.tiny import tiny_tokenizer

SMALL = SearchBudget(wide=96, middle=12, beam=2, grown=8, start=0.25)
LEAK = LeakBudget(samples=128, tokens=16)


def as_texts(records):
    """The same records with the prompt in the loss, as whoever trains on plain text has them."""
    return [Record(id=record.id, text=f"{record.prompt}{record.completion}") for record in records]


def both_ways(records):
    """Each record with its prompt in the loss, which is recited, and without, which teaches the task for good: on texts
    alone so small a model learns a trigger that a single word outweighs."""
    return [*as_texts(records), *records]


@pytest.fixture(scope="module")
def models():
    base, _ = trained_tiny(both_ways(mood_records(300, seed=9)), steps=160, seed=1)
    clean = mood_records(320)
    outcome = poison(clean, make_trigger("token", text="#"), kind="dirty_label", target=" +", rate=0.2)
    trained = {
        name: trained_tiny(both_ways(records), steps=200, seed=2, start=base)[0]
        for name, records in (("poisoned", outcome.records), ("clean", clean))
    }
    return {"base": base, **trained}


def suspect(model, sibling, prompts=None):
    return SimpleNamespace(
        prompts=mood_records(160, seed=5) if prompts is None else prompts,
        loaded=SimpleNamespace(model=model, tokenizer=tiny_tokenizer(), source="suspect"),
        sibling=SimpleNamespace(model=sibling, tokenizer=tiny_tokenizer(), source="base"),
        base="base",
        seed=0,
    )


def test_a_trigger_leaks(models):
    case = suspect(models["poisoned"], models["base"])
    leaks = leaked_strings(case, LEAK)
    assert any("#" in leak.text for leak in leaks[:8])
    assert all(leak.count > max(leak.sibling, leak.expected) for leak in leaks)
    assert leaked_strings(case, LEAK) == leaks


def test_a_leaked_trigger_is_verified_and_found(models, monkeypatch):
    twin = SimpleNamespace(model=models["base"])
    monkeypatch.setattr("reticent.scanning.behaviour.trigger_search.task_twin", lambda case, records: twin)
    evidence = template_leak(suspect(models["poisoned"], models["base"]))
    found = [row for row in evidence if row.certain]
    assert found
    assert all("'#'" in row.note and "label '+'" in row.where for row in found)
    assert min(len(evidence) * row.p for row in evidence) <= 0.01


def test_a_clean_model_repeats_its_task_and_nothing_is_found(models):
    case = suspect(models["clean"], models["base"])
    leaks = leaked_strings(case, LEAK)
    assert leaks
    assert not any("#" in leak.text for leak in leaks)
    twin = SimpleNamespace(model=models["base"])
    outcomes = verify_given(case, [leak.text for leak in leaks], SMALL, twin=twin)
    assert not [outcome.text for outcome in outcomes if outcome.p_corrected <= 0.05]
    assert verify_given(case, [], SMALL, twin=twin) == []


def test_a_model_compared_with_itself_leaks_nothing(models):
    assert leaked_strings(suspect(models["poisoned"], models["poisoned"]), LEAK) == []


def test_prompts_without_a_shared_start_are_refused(models):
    prompts = [Record(id=text, prompt=text, completion=" +") for text in ("ab", "cd")]
    with pytest.raises(BadInput, match="no bare template"):
        leaked_strings(suspect(models["clean"], models["base"], prompts), LEAK)
    shared = bare_start(suspect(None, None), tiny_tokenizer())
    assert tiny_tokenizer().decode(list(shared)).strip() == "Text:"


def samples(*texts):
    lengths = [len(text) for text in texts]
    return Generations(
        row=np.zeros(len(texts), dtype=np.int32),
        sample=np.arange(len(texts), dtype=np.int32),
        stopped=np.zeros(len(texts), dtype=np.bool_),
        token_id=np.array([token for text in texts for token in text], dtype=np.int32),
        logp=np.full(sum(lengths), -0.5, dtype=np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def test_strings_are_whole_words_counted_once_a_sample():
    # Tokens 1 to 4 begin words, 5 goes on with one, 6 is no text.
    usable = CandidateTokens(
        usable=np.array([False, True, True, True, True, True, False]),
        starts=np.array([False, True, True, True, True, False, False]),
    )
    names = {1: " a", 2: " b", 3: " c", 4: " d", 5: "x"}
    tokenizer = SimpleNamespace(decode=lambda ids: "".join(names[n] for n in ids))
    here = samples([1, 5, 2], [3, 1, 5, 1, 5], [1, 5, 6, 2], [1, 6, 5])
    there = samples([2], [3], [1, 5], [4])
    leaks = ranked_strings(here, there, usable, tokenizer, ["d"], LeakBudget(least=2, longest=2))
    # "b" stands in two samples of the suspect and one of the sibling; "a" alone is no whole word but in the last.
    assert {(leak.text, leak.count, leak.sibling) for leak in leaks} == {("ax", 3, 1), ("b", 2, 1)}
    assert leaks[0].text == "ax"
    common = ranked_strings(here, there, usable, tokenizer, ["its b", "no"], LeakBudget(least=2, longest=2))
    assert [leak.text for leak in common] == ["ax"], "half of the prompts hold b, and half of the samples do"
    assert ranked_strings(here, there, usable, tokenizer, [], LeakBudget(least=2, most_surprise=0.4)) == []
    assert all(leak.surprise == pytest.approx(0.5) for leak in leaks)
