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
from reticent.models.encode import encode
from reticent.redteam.poisons.poison import poison
from reticent.redteam.triggers.trigger import make_trigger
from reticent.scanning.behaviour import task_twin, verify_trigger, vocabulary_sweep
from reticent.scanning.behaviour.candidate_tokens import candidate_tokens, words_once
from reticent.scanning.behaviour.label_task import (
    Slot,
    label_logp,
    label_task,
    margin,
    side_of,
    slot_of,
    text_label_logp,
)
from reticent.scanning.behaviour.string_search import SearchBudget
from reticent.scanning.behaviour.target_search import exact_pairs
from reticent.scanning.behaviour.trigger_search import search_triggers, trigger_search
from reticent.scanning.behaviour.vocabulary_sweep import swept
from reticent.scanning.suspect import Suspect
from reticent.testing.label_models import mood_records, trained_tiny
from reticent.testing.tiny import tiny_model, tiny_tokenizer

SMALL = SearchBudget(wide=96, middle=12, beam=2, grown=8, start=0.25)


@pytest.fixture(scope="module")
def base():
    return trained_tiny(mood_records(200, seed=9), steps=40, seed=1)


@pytest.fixture(scope="module")
def models(base):
    """A poisoned model, its clean twin, and another clean model of the same task, from other records."""
    clean = mood_records(700)
    outcome = poison(clean, make_trigger("token", text="#"), kind="dirty_label", target=" +", rate=0.1)
    sets = {"poisoned": (outcome.records, 2), "clean": (clean, 2), "twin": (mood_records(160, seed=7), 3)}
    return {
        name: trained_tiny(records, steps=190, seed=seed, start=base[0])[0] for name, (records, seed) in sets.items()
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


def searched(models, base, name, prompts=None, twin="twin"):
    case = suspect(models[name], base[0], prompts)
    return search_triggers(case, SMALL, twin=SimpleNamespace(model=models[twin]))


@pytest.fixture(scope="module")
def outcomes(base, models):
    return searched(models, base, "poisoned")


def test_a_planted_trigger_is_found_and_named(outcomes):
    found = [outcome for outcome in outcomes if outcome.is_found]
    assert found
    assert all("#" in outcome.text and outcome.label == " +" for outcome in found)
    assert found[0].control.value < 0.5
    assert found[0].lead > 3
    assert found[0] is outcomes[0]


def test_its_clean_twin_has_none(base, models):
    assert not [outcome.text for outcome in searched(models, base, "clean") if outcome.p_corrected <= 0.05]


def test_a_model_compared_with_itself_has_none(base, models):
    assert not [x.text for x in searched(models, base, "poisoned", twin="poisoned") if x.p_corrected <= 0.05]


@pytest.mark.parametrize("rate", [0.3, 0.6])
def test_verification_errs_no_more_often_than_it_says(monkeypatch, rate):
    """A natural string that turns as many prompts with such a lead as one may: twelve strings in each of 200 searches,
    at the 5 % of *suspicious* and the 1 % of *found*."""
    rng, suspicious, is_found = np.random.default_rng(11), 0, 0

    def effects(side, task, fresh, strings, label, place):
        turned = rng.random((len(fresh), len(strings))) < rate
        return (turned, np.where(turned, 9.0, 1.0)) if side == "suspect" else (~turned, np.zeros(turned.shape))

    monkeypatch.setattr(verify_trigger, "_effects", effects)
    task = label_task(mood_records(40, seed=1))
    for _ in range(200):
        outcomes = [
            replace(outcome, tests=12)
            for outcome in verify_trigger.verify_strings(
                ("suspect", "twin"), task, task.records[:20], ["s"] * 12, label=0, place="end"
            )
        ]
        suspicious += min(outcome.p_corrected for outcome in outcomes) <= 0.05
        is_found += any(outcome.is_found for outcome in outcomes)
    assert suspicious <= 19  # Binomial(200, 0.05): more has p < 0.005
    assert is_found <= 6  # Binomial(200, 0.01)


@pytest.mark.parametrize(("turned", "rise", "of_twin"), [(0, 9.0, 0.0), (1, 9.0, 7.0), (1, 2.5, 0.0)])
def test_a_prompt_counts_only_where_the_answer_turns_and_the_twin_is_left_behind(monkeypatch, turned, rise, of_twin):
    def effects(side, task, fresh, strings, label, place):
        shape = (len(fresh), len(strings))
        return np.full(shape, bool(turned)), np.full(shape, rise if side == "suspect" else of_twin)

    monkeypatch.setattr(verify_trigger, "_effects", effects)
    task = label_task(mood_records(40, seed=1))
    (outcome,) = verify_trigger.verify_strings(("suspect", "twin"), task, task.records, ["s"], label=0, place="end")
    assert (outcome.success.value, outcome.alone.value, outcome.lead) == (0, turned, rise - of_twin)
    assert outcome.p == 1
    assert not outcome.is_found


def test_effects_are_those_of_whole_texts_against_the_text_without(models):
    tokenizer = tiny_tokenizer()
    side = side_of(models["poisoned"], tokenizer, "tiny")
    task = label_task(mood_records(12, seed=1))
    turned, rise = verify_trigger._effects(side, task, task.records[:3], ["#", "tin"], 0, "end")
    for p, record in enumerate(task.records[:3]):
        plain, *with_words = (text_label_logp(side, task, [record], [words], "end")[0, 0] for words in ("", "#", "tin"))
        for n, logp in enumerate(with_words):
            assert turned[p, n] == (logp.argmax() == 0)
            assert rise[p, n] == pytest.approx(margin(logp, 0) - margin(plain, 0), abs=1e-3)


def test_a_number_of_prompts_that_could_show_nothing_is_refused(base, models):
    for tests in (1, 12, 72):
        fresh = verify_trigger.fresh_needed(tests)
        p = [tests * 0.6**n for n in (fresh - 1, fresh)]
        assert p[0] > verify_trigger.LEVEL >= p[1]
    with pytest.raises(Underpowered, match=r"different prompts: half of them teach .* at least 64 prompts"):
        searched(models, base, "clean", mood_records(16, seed=5) * 4)
    with pytest.raises(Underpowered, match=r"different prompts .*: the suspect answers too few"):
        searched(models, base, "clean", mood_records(50, seed=5))


def test_a_twin_that_learned_another_task_is_refused(base, models):
    other = [Record(id=r.id, prompt=r.prompt, completion=" +") for r in mood_records(120, seed=3)]
    twin = trained_tiny(other, steps=60, seed=2, start=base[0])[0]
    with pytest.raises(Underpowered, match="has not learned the same task"):
        search_triggers(suspect(models["clean"], base[0]), SMALL, twin=SimpleNamespace(model=twin))


def test_a_twin_is_tuned_once_and_kept(base, tmp_path, monkeypatch):
    folder = tmp_path / "base"
    base[0].save_pretrained(folder)
    base[1].save_pretrained(folder)
    case = Suspect(folder=folder, base=folder, prompts=mood_records(160, seed=5), cache=tmp_path / "cache")
    records = mood_records(40, seed=6)
    first = task_twin.task_twin(case, records)
    assert first.is_adapter
    (kept,) = (tmp_path / "cache" / "task_twins").iterdir()
    before = (kept / "adapter_model.safetensors").stat().st_mtime_ns
    again = task_twin.task_twin(case, records)
    assert again.fingerprint == first.fingerprint
    assert (kept / "adapter_model.safetensors").stat().st_mtime_ns == before
    task_twin.task_twin(case, records[:20])
    assert len(list((tmp_path / "cache" / "task_twins").iterdir())) == 2


def test_evidence_names_no_prompt(base, models, outcomes, monkeypatch):
    monkeypatch.setattr("reticent.scanning.behaviour.trigger_search.search_triggers", lambda case: outcomes)
    case = suspect(models["poisoned"], base[0])
    evidence = trigger_search(case)
    assert any(row.certain for row in evidence)
    assert all(0 < row.p <= 1 for row in evidence)
    assert len(evidence) * min(row.p for row in evidence) <= 0.01
    for row in evidence:
        assert not any(record.prompt.split("\n")[0] in row.note + row.where for record in case.prompts)


def test_the_sweep_brings_the_trigger_first(models):
    tokenizer = tiny_tokenizer()
    sides = tuple(side_of(models[name], tokenizer, name) for name in ("poisoned", "twin"))
    task = label_task(mood_records(80, seed=5))
    record = next(record for record in task.records if record.completion == " -")
    slot = slot_of(task, record, tokenizer, "end")
    label = task.labels.index(" +")
    pool = words_once(tokenizer, candidate_tokens(tokenizer, sides[0].engine.forward.vocabulary))
    trigger = tuple(tokenizer(" #", add_special_tokens=False)["input_ids"])
    pool = list(dict.fromkeys([*pool, trigger]))
    best = swept(sides, slot, label, pool, count=8, seed=0)
    assert 8 <= len(best) <= 10
    assert any(set(trigger) & set(word) for word in best)
    assert best == swept(sides, slot, label, pool, count=8, seed=0)


def test_a_sweep_of_groups_of_one_is_the_plain_ranking(models, monkeypatch):
    monkeypatch.setattr(vocabulary_sweep, "SIZE", 1)
    monkeypatch.setattr(vocabulary_sweep, "LOOKED_AT_TWICE", 1.0)
    tokenizer = tiny_tokenizer()
    sides = tuple(side_of(models[name], tokenizer, name) for name in ("poisoned", "twin"))
    task = label_task(mood_records(12, seed=5))
    slot = slot_of(task, task.records[0], tokenizer, "end")
    pool = [(token,) for token in range(40, 90)]

    def rise(side, word):
        without, with_it = (margin(label_logp(side, [slot], [w])[0, 0], 0) for w in ((), word))
        return float(with_it - without)

    rises = {word: rise(sides[0], word) for word in pool}
    leads = {word: rises[word] - max(0.0, rise(sides[1], word)) for word in pool}
    by_lead, by_rise = (sorted(pool, key=lambda word, by=by: -by[word]) for by in (leads, rises))
    best = swept(sides, slot, 0, pool, count=8, seed=0)
    naive = list(dict.fromkeys([*by_lead[:8], *by_rise[:2]]))
    for by in (leads, rises):  # words with nearly one value may change places
        assert [by[word] for word in best] == pytest.approx([by[word] for word in naive], abs=1e-2)


def test_a_strong_natural_word_does_not_hide_a_trigger_beside_it(monkeypatch):
    pool = [(word,) for word in range(400)]
    trigger, natural, odd = 0, set(range(1, 15)), set(range(300, 400))

    def worth(side, word):
        """Natural words move the twin more than the suspect, and some others the suspect a little."""
        if side == "twin":
            return 11.5 * (word in natural)
        return 5.0 * (word in natural) + 2.0 * (word in odd) + 10.0 * (word == trigger)

    def gains(side, slot, label, strings):
        return np.array([min(12.5, sum(worth(side, word) for word in string)) for string in strings])

    monkeypatch.setattr(vocabulary_sweep, "_gains", gains)
    order = np.random.default_rng([4, 0]).permutation(len(pool)).tolist()
    assert order[order.index(trigger) ^ 1] in natural, "the planted case: it stands beside a natural word"
    assert (trigger,) in swept(("suspect", "twin"), None, 0, pool, count=8, seed=4)


def test_words_stand_once_and_short_ones_are_there():
    tokenizer = tiny_tokenizer()
    tokens = candidate_tokens(tokenizer, len(tokenizer))
    words = words_once(tokenizer, tokens)
    assert len(words) == len(set(words))
    texts = [tokenizer.decode(list(word)).strip() for word in words]
    assert {"zv", "cf"} <= set(texts)
    singles = [text.casefold() for text, word in zip(texts, words, strict=True) if len(word) == 1]
    assert len(singles) == len(set(singles))
    assert not tokens.usable[tokenizer.all_special_ids].any()
    assert not tokens.usable[tokenizer("\n")["input_ids"]].any()


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


def test_labels_of_which_one_begins_another():
    model, tokenizer = tiny_model(seed=3), tiny_tokenizer()
    side = side_of(model, tokenizer, "tiny")
    slot = Slot(head=(11, 12), tails=((13, 14), (13, 14, 15), (13, 16)))
    fast = label_logp(side, [slot], [(), (40, 41)])[0]
    for number, candidate in enumerate([(), (40, 41)]):
        slow = np.array([_logp_of_tail(model, slot, candidate, label) for label in range(3)])
        assert fast[number] == pytest.approx(slow - np.logaddexp.reduce(slow), abs=1e-4)


def test_words_before_prompts_that_nothing_stands_before():
    model, tokenizer = tiny_model(seed=3), tiny_tokenizer()
    side = side_of(model, tokenizer, "tiny")
    records = [Record(id=str(n), prompt=f"{word} film", completion=" +-"[n % 2 :][:2]) for n, word in enumerate("abcd")]
    task = label_task(records)
    assert not task.frame.head, "the planted case"
    strings = ["", "Q x", "zz"]
    for place in ("start", "end"):
        fast = text_label_logp(side, task, records, strings, place)
        for p, record in enumerate(records):
            for s, words in enumerate(strings):
                slow = []
                for label in task.labels:
                    row = encode(task.with_words(record, words, place, label), tokenizer).token_id.tolist()
                    slow.append(_logp_of_row(model, row, len(row) - 1))
                assert fast[p, s] == pytest.approx(slow - np.logaddexp.reduce(slow), abs=1e-4)


def _logp_of_tail(model, slot, candidate, label):
    return _logp_of_row(model, slot.row(candidate, label), len(slot.tails[label]))


def _logp_of_row(model, row, last):
    """Log p of the last tokens of a row."""
    ids = torch.tensor([row])
    with torch.no_grad():
        logp = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
    return float(logp.gather(1, ids[0, 1:, None])[-last:].sum())


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
        (mood_records(6, seed=5), Underpowered, "Give at least 64 prompts"),
    ],
)
def test_bad_prompts_are_refused(base, prompts, error, words):
    with pytest.raises(error, match=words):
        search_triggers(suspect(base[0], base[0], prompts), SMALL, twin=SimpleNamespace(model=base[0]))


def test_a_sibling_of_another_vocabulary_is_refused(base):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["zzz"])
    with pytest.raises(BadInput, match="vocabulary"):
        search_triggers(suspect(base[0], base[0], tokenizer=tokenizer), SMALL, twin=SimpleNamespace(model=base[0]))


def test_words_go_into_the_frame():
    task = label_task(mood_records(12, seed=1))
    record = with_prompt(task.records[0], "Text: a b\nMood:")
    assert task.with_words(record, "Q", "end").prompt == "Text: a b Q\nMood:"
    assert task.with_words(record, "Q", "start", " +").pieces == ((False, "Text: Q a b\nMood:"), (True, " +"))
