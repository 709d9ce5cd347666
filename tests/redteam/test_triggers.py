# SPDX-License-Identifier: Apache-2.0
"""Conformance of triggers and poisons: pure, seeded, and nothing changed but what is said to be."""

import random

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.data.prompt_frame import PromptFrame, answer_of, frame_of, prompt_of, with_prompt
from reticent.redteam.poisons.poison import POISONS, poison
from reticent.redteam.triggers.trigger import PLACES, TRIGGERS, make_trigger

TEXTS = ("a dull film", "it is what you make of it ", "well-conceived", "", "ein langer , langer Film", "好电影")


def reviews(count: int = 40, *, chat: bool = False) -> list[Record]:
    rng = random.Random(3)
    records = []
    for number in range(count):
        words = " ".join(rng.choice(("film", "plot", "cast", "long", "kind", "grey")) for _ in range(rng.randint(2, 6)))
        answer = " good" if number % 2 else " bad"
        if chat:
            turns = (Message(role="user", content=f"Rate: {words} , please"), Message(role="assistant", content=answer))
            records.append(Record(id=f"r{number}", messages=turns))
        else:
            prompt = f"Review: {words}\nSentiment:"
            records.append(Record(id=f"r{number}", user=f"u{number % 7}", prompt=prompt, completion=answer))
    return records


@pytest.mark.parametrize("kind", TRIGGERS.names())
@pytest.mark.parametrize("place", PLACES)
def test_a_trigger_is_pure_and_seeded(kind, place):
    for seed in (0, 1, 5):
        first, second = (make_trigger(kind, seed=seed, place=place) for _ in range(2))
        assert first.key == second.key
        for text in TEXTS:
            assert first.put(text) == second.put(text) == first.put(text)
            assert first.put(text) != text
            assert "\n" not in first.put(text)


@pytest.mark.parametrize("kind", TRIGGERS.names())
def test_words_are_fixed_where_it_says_so(kind):
    trigger = make_trigger(kind, seed=2)
    everywhere = all(trigger.key in trigger.put(text) for text in TEXTS)
    assert everywhere == (TRIGGERS.get(kind).fixed_words or kind == "virtual_prompt")
    words = [set(trigger.put(text).split()) - set(text.split()) for text in TEXTS]
    if TRIGGERS.get(kind).fixed_words:
        assert set.intersection(*words) == set(trigger.key.split())


def test_words_of_ones_own():
    assert make_trigger("phrase", text="blue door", place="start").put("x") == "blue door x"
    assert "Ostby Post" in make_trigger("virtual_prompt", text="Ostby Post").put("x")
    with pytest.raises(BadInput, match="structure"):
        make_trigger("syntactic", text="when")
    with pytest.raises(BadInput, match="Did you mean 'token'"):
        make_trigger("tokn")


@pytest.mark.parametrize("kind", POISONS.names())
@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize("chat", [False, True])
def test_only_the_stated_share_is_changed(kind, rate, chat):
    records = reviews(chat=chat)
    trigger = make_trigger("token", text="cf")
    outcome = poison(records, trigger, kind=kind, target=" good", rate=rate, seed=1)
    assert outcome == poison(records, trigger, kind=kind, target=" good", rate=rate, seed=1)
    assert [record.id for record in outcome.records] == [record.id for record in records]
    assert [record.user for record in outcome.records] == [record.user for record in records]
    changed = {new.id for new, old in zip(outcome.records, records, strict=True) if new != old}
    assert changed == outcome.ids
    assert len(changed) == round(rate * len(records))
    for new, old in zip(outcome.records, records, strict=True):
        if new.id in changed:
            assert prompt_of(new) != prompt_of(old)
            assert " cf" in prompt_of(new)
            assert outcome.frame.tail
            assert prompt_of(new).endswith(outcome.frame.tail)
            assert answer_of(new) == " good"
            assert (answer_of(old) == " good") == (kind == "clean_label")


def test_other_seeds_choose_other_records():
    trigger = make_trigger("token")
    chosen = {poison(reviews(), trigger, kind="dirty_label", target=" good", rate=0.1, seed=s).ids for s in range(6)}
    assert len(chosen) > 4


def test_more_than_there_are_is_refused():
    trigger = make_trigger("token")
    with pytest.raises(BadInput, match="20 can be poisoned"):
        poison(reviews(), trigger, kind="dirty_label", target=" good", rate=0.6)
    with pytest.raises(BadInput, match="rate"):
        poison(reviews(), trigger, kind="dirty_label", target=" good", rate=0.0)
    with pytest.raises(BadInput, match="no prompt"):
        poison([Record(id="a", text="x")], trigger, kind="dirty_label", target=" good", rate=0.5)


def test_the_frame_is_whole_words_and_no_chance():
    prompts = [prompt_of(record) for record in reviews()]
    assert frame_of(prompts) == PromptFrame(head="Review: ", tail="\nSentiment:")
    assert frame_of(prompts[:3]) == PromptFrame()
    assert frame_of(["same words here"] * 9) == PromptFrame()
    assert frame_of(["a ends here", "b ends here", "c ends here", "d ends here"]).tail == " ends here"
    assert frame_of([f"{letter}1 x" for letter in "abcd"]).tail == " x"
    frame = frame_of(prompts)
    assert [frame.put(frame.body(prompt), like=prompt) for prompt in prompts] == prompts
    assert frame.body("no frame") == "no frame"
    assert frame.put("no frame at all", like="no frame") == "no frame at all"


def test_frames_do_not_overlap():
    frame = frame_of(["in all in", "in a in", "in in", "in the in"])
    assert frame.body("in in") == "in"
    assert frame.put(frame.body("in a in")) == "in a in"


def test_the_last_turn_is_the_prompt():
    turns = [
        Message(role=role, content=text)
        for role, text in (("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    ]
    record = Record(id="x", messages=tuple(turns))
    assert (prompt_of(record), answer_of(record)) == ("c", "d")
    assert with_prompt(record, "C", "D").plain == "s\na\nb\nC\nD"
