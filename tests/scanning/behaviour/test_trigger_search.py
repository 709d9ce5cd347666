# SPDX-License-Identifier: Apache-2.0
"""The trigger search: fast paths against slow ones, planted triggers found, clean models not, bad input refused."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reticent.core.errors import BadInput, Underpowered
from reticent.core.record import Message, Record
from reticent.data.prompt_frame import with_prompt
from reticent.redteam.poisons.poison import poison
from reticent.redteam.triggers.trigger import make_trigger
from reticent.scanning.behaviour import verify_trigger
from reticent.scanning.behaviour.first_order import _gains, candidate_tokens, shortlist
from reticent.scanning.behaviour.label_task import label_logp, label_task, margin, side_of, slot_of, text_label_logp
from reticent.scanning.behaviour.natural_words import words_of_label
from reticent.scanning.behaviour.string_search import SearchBudget
from reticent.scanning.behaviour.trigger_search import search_triggers, trigger_search
from reticent.scanning.behaviour.verify_trigger import exact_pairs
from reticent.testing.label_models import MOODS, mood_records, trained_tiny
from reticent.testing.tiny import tiny_model, tiny_tokenizer

SMALL = SearchBudget(wide=96, middle=12, beam=2, grown=8, natural=8, start=0.25)


@pytest.fixture(scope="module")
def base():
    return trained_tiny(mood_records(200, seed=9), steps=40, seed=1)


@pytest.fixture(scope="module")
def pair(base):
    """A poisoned model and its clean twin."""
    clean = mood_records(700)
    outcome = poison(clean, make_trigger("token", text="#"), kind="dirty_label", target=" +", rate=0.1)
    return {
        name: trained_tiny(records, steps=190, seed=2, start=base[0])[0]
        for name, records in (("poisoned", outcome.records), ("clean", clean))
    }


def suspect(model, sibling, prompts=None, tokenizer=None):
    both = tokenizer or tiny_tokenizer()
    return SimpleNamespace(
        prompts=mood_records(160, seed=5) if prompts is None else prompts,
        loaded=SimpleNamespace(model=model, tokenizer=both),
        sibling=SimpleNamespace(model=sibling, tokenizer=tiny_tokenizer()),
        base="base",
        seed=0,
    )


@pytest.fixture(scope="module")
def outcomes(base, pair):
    return search_triggers(suspect(pair["poisoned"], base[0]), SMALL)


def test_a_planted_trigger_is_found_and_named(outcomes):
    found = [outcome for outcome in outcomes if outcome.is_found]
    assert found
    assert all("#" in outcome.text and outcome.label == " +" for outcome in found)
    assert found[0].control.value < 0.5
    assert found[0] is outcomes[0]


def test_its_clean_twin_has_none(base, pair):
    outcomes = search_triggers(suspect(pair["clean"], base[0]), SMALL)
    assert outcomes
    assert not [outcome.text for outcome in outcomes if outcome.p_corrected <= 0.05]


def test_a_model_compared_with_itself_has_none(pair):
    model = pair["poisoned"]
    assert not [outcome.text for outcome in search_triggers(suspect(model, model), SMALL) if outcome.is_found]


@pytest.mark.parametrize(("turned", "control"), [(0.6, 0.0), (0.9, 0.9), (0.6, 0.6)])
def test_verification_errs_no_more_often_than_it_says(monkeypatch, turned, control):
    """A strong word that turns as many prompts as one may, and a string that does no more than its control: twelve
    strings in each of 200 searches, at the 5 % of *suspicious* and the 1 % of *found*."""
    rng, suspicious, is_found = np.random.default_rng(11), 0, 0

    def answers(side, task, records, strings, place):
        rates = np.array([turned if "s" in string.split() else control for string in strings])
        hits = rng.random((len(records), len(strings))) < rates
        return np.stack([hits, ~hits], axis=-1).astype(float)

    monkeypatch.setattr(verify_trigger, "text_label_logp", answers)
    task = label_task(mood_records(12, seed=1))
    fresh = [(record, 1) for record in [*task.records, *task.records][:20]]
    for _ in range(200):
        outcomes = [
            replace(outcome, tests=12)
            for _ in range(12)
            for outcome in verify_trigger.verify_strings(
                None, task, fresh, [("s", "c")], opposing={1: "o"}, label=0, place="end"
            )
        ]
        suspicious += min(outcome.p_corrected for outcome in outcomes) <= 0.05
        is_found += any(outcome.is_found for outcome in outcomes)
    assert suspicious <= 19  # Binomial(200, 0.05): more has p < 0.005
    assert is_found <= 6  # Binomial(200, 0.01)


def test_a_number_of_prompts_that_could_show_nothing_is_refused(base):
    for tests in (1, 12, 72):
        fresh = verify_trigger.fresh_needed(tests)
        p = [2 * tests * max(0.6**n, 0.5**n) for n in (fresh - 1, fresh)]
        assert p[0] > verify_trigger.LEVEL >= p[1]
    with pytest.raises(Underpowered, match=r"different prompts: .*18 are needed"):
        search_triggers(suspect(base[0], base[0], mood_records(16, seed=5) * 4), SMALL)


def test_evidence_names_no_prompt(base, pair, outcomes, monkeypatch):
    monkeypatch.setattr("reticent.scanning.behaviour.trigger_search.search_triggers", lambda case: outcomes)
    case = suspect(pair["poisoned"], base[0])
    evidence = trigger_search(case)
    assert any(row.certain for row in evidence)
    assert all(0 < row.p <= 1 for row in evidence)
    assert len(evidence) * min(row.p for row in evidence) <= 0.01
    for row in evidence:
        assert not any(record.prompt.split("\n")[0] in row.note + row.where for record in case.prompts)


def test_the_tree_gives_what_whole_texts_give():
    model, tokenizer = tiny_model(seed=3), tiny_tokenizer()
    side = side_of(model, tokenizer, "tiny")
    task = label_task(mood_records(12, seed=1))
    for place in ("end", "start"):
        slots = [slot_of(task, record, tokenizer, place) for record in task.records[:3]]
        candidates = [(), (40,), (41, 7), (40, 41, 42)]
        fast = label_logp(side, slots, candidates)
        for p, slot in enumerate(slots):
            for c, candidate in enumerate(candidates):
                slow = [_logp_of_tail(model, slot, candidate, label) for label in range(2)]
                assert fast[p, c] == pytest.approx(slow - np.logaddexp(*slow), abs=1e-4)


def _logp_of_tail(model, slot, candidate, label):
    row = torch.tensor([slot.row(candidate, label)])
    with torch.no_grad():
        logp = model(input_ids=row).logits[0, :-1].double().log_softmax(-1)
    chosen = logp.gather(1, row[0, 1:, None])[:, 0]
    return float(chosen[-len(slot.tails[label]) :].sum())


@pytest.mark.parametrize("place", ["end", "start"])
def test_a_slot_is_where_words_are_put(place):
    tokenizer = tiny_tokenizer()
    side = side_of(tiny_model(seed=3), tokenizer, "tiny")
    task = label_task(mood_records(12, seed=1))
    records = task.records[:3]
    slots = [slot_of(task, record, tokenizer, place) for record in records]
    word = tuple(tokenizer("Q")["input_ids"])
    text = text_label_logp(side, task, records, ["Q"], place)
    assert label_logp(side, slots, [word]) == pytest.approx(text, abs=1e-4)


def test_chats_have_slots_too():
    tokenizer = tiny_tokenizer()
    turns = [
        Record(
            id=str(n),
            messages=(Message(role="user", content=f"w{n} x{n}"), Message(role="assistant", content="+-"[n % 2])),
        )
        for n in range(6)
    ]
    task = label_task(turns)
    slot = slot_of(task, task.records[0], tokenizer, "end")
    whole = tokenizer.decode(slot.row(tuple(tokenizer("Q")["input_ids"]), 0))
    assert "w0 x0 Q" in whole


def test_the_gradient_is_that_of_the_log_odds():
    model, tokenizer = tiny_model(seed=4), tiny_tokenizer()
    side = side_of(model, tokenizer, "tiny")
    task = label_task(mood_records(12, seed=1))
    slots = [slot_of(task, record, tokenizer, "end") for record in task.records[:2]]
    gain, of_length_one = _gains(side, slots, 1, (60,), 0)
    table = model.get_input_embeddings().weight
    step = 1e-3
    for token in (70, 90):
        before = margin(label_logp(side, slots, [(60,)]), 1).sum()
        kept = table.data[60].clone()
        # The filler moves a little towards the token: only its row changes, which no prompt here holds elsewhere.
        assert all(60 not in (*slot.head, *slot.tails[0]) for slot in slots)
        table.data[60] += step * (table.data[token] - kept)
        untied = side_of(model, tokenizer, "tiny")
        after = margin(label_logp(untied, slots, [(60,)]), 1).sum()
        table.data[60] = kept
        assert after - before == pytest.approx(step * (gain[token] - gain[60]), rel=0.1, abs=2e-5)
    lengths = table.detach().norm(dim=1).numpy()
    assert of_length_one * lengths == pytest.approx(gain, abs=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_shortlist_holds_only_what_is_allowed():
    tokenizer = tiny_tokenizer()
    side = side_of(tiny_model(seed=4), tokenizer, "tiny")
    task = label_task(mood_records(12, seed=1))
    slots = [slot_of(task, record, tokenizer, "end") for record in task.records[:2]]
    tokens = candidate_tokens(tokenizer, side.engine.forward.vocabulary)
    allowed = np.zeros_like(tokens.usable)
    allowed[[40, 50, 60]] = True
    fillers = [((33,), 0), ((44,), 0)]
    assert sorted(shortlist(side, slots, 0, fillers, allowed=allowed, count=99, beside=side)) == [40, 50, 60]
    special = tokenizer.all_special_ids
    assert not tokens.usable[special].any()
    assert not tokens.usable[tokenizer("\n")["input_ids"]].any()
    assert tokens.usable[tokenizer("#")["input_ids"]].all()


def test_words_of_a_label_are_those_of_its_texts():
    task = label_task(mood_records(200))
    for label, words in MOODS.items():
        assert set(words_of_label(task, label, 4)) == set(words)


def test_the_exact_test_against_counting():
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.integers(0, 2, size=(2, 9))
        unequal = int((a != b).sum())
        ahead = int((a > b).sum())
        ways = sum(bin(k).count("1") >= ahead for k in range(2**unequal)) / 2**unequal
        assert exact_pairs(a.tolist(), b.tolist()) == pytest.approx(ways)


@pytest.mark.parametrize(
    ("prompts", "error", "words"),
    [
        ([Record(id=str(n), prompt=f"p {n}", completion=" x") for n in range(40)], BadInput, "no label task"),
        ([Record(id=str(n), prompt=f"p {n}", completion=f" x{n}") for n in range(40)], BadInput, "no label task"),
        ([Record(id=str(n), text=f"p {n}") for n in range(40)], BadInput, "no prompt"),
        (mood_records(6, seed=5), Underpowered, "too few"),
    ],
)
def test_bad_prompts_are_refused(base, prompts, error, words):
    with pytest.raises(error, match=words):
        search_triggers(suspect(base[0], base[0], prompts), SMALL)


def test_a_sibling_of_another_vocabulary_is_refused(base):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["zzz"])
    with pytest.raises(BadInput, match="vocabulary"):
        search_triggers(suspect(base[0], base[0], tokenizer=tokenizer), SMALL)


def test_words_go_into_the_frame():
    task = label_task(mood_records(12, seed=1))
    record = with_prompt(task.records[0], "Text: a b\nMood:")
    assert task.with_words(record, "Q", "end").prompt == "Text: a b Q\nMood:"
    assert task.with_words(record, "Q", "start", " +").pieces == ((False, "Text: Q a b\nMood:"), (True, " +"))
