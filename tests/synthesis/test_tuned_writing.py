# SPDX-License-Identifier: Apache-2.0
"""Texts of tuned models: counts of prompts are noised and paid for, and together with the training ε is kept."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.privacy.spec import REPLACE_ONE
from reticent.synthesis.nearest_votes import histogram
from reticent.synthesis.synthesis_mechanism import MECHANISMS, SynthesisMaterial
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.synthesis.text_lengths import behind_cells
from reticent.synthesis.tuned_writing import TunedPlan, settled_tuning, shared_out
from reticent.testing.synthesis_mechanisms import STEPS, made_up, made_up_guarantee

KEY = hashlib.sha256(b"counts").digest()
LABELLED = [
    Record(id=f"r{n}", prompt="good: " if n % 4 else "bad: ", completion=f"tea {n}", user=f"u{n // 4}")
    for n in range(120)
]


def plan(records: list[Record] = LABELLED, *, private: bool = True, **settings: object) -> TunedPlan:
    given = {"mechanism": "dp_tune", "epsilon": 8.0, "condition": "prompt", "topics": "good:,bad:"} | settings
    spec = SynthesisSpec(**given)  # type: ignore[arg-type]
    return settled_tuning(SynthesisMaterial(records=records, spec=spec, key=KEY), private=private)


@pytest.mark.parametrize(("epsilon", "share", "unit"), [(8.0, 0.1, "user"), (1.0, 0.3, "record"), (3.0, 0.05, "user")])
def test_training_and_counts_together_keep_the_promise(epsilon: float, share: float, unit: str) -> None:
    settled = plan(epsilon=epsilon, count_share=share, unit=unit)
    assert settled.privacy.delta is not None
    guarantee = made_up_guarantee(settled.privacy, settled.units)
    promise = settled.promise(guarantee)
    accountant = PLDAccountant(value_discretization_interval=5e-3)
    step = dp_event.PoissonSampledDpEvent(guarantee.rate, dp_event.GaussianDpEvent(guarantee.noise_multiplier))
    accountant.compose(dp_event.SelfComposedDpEvent(step, STEPS))
    accountant.compose(dp_event.GaussianDpEvent(settled.noise))
    assert promise.epsilon == pytest.approx(accountant.get_epsilon(settled.delta), rel=2e-2)
    assert 0.7 * epsilon < promise.epsilon <= epsilon
    assert "counts of prompts" in promise.sentence()


def test_without_counts_the_promise_is_that_of_the_training() -> None:
    texts = [Record(id=f"r{n}", text="a") for n in range(50)]
    settled = plan(texts, condition="none", topics="")
    assert (settled.noise, settled.privacy.epsilon, settled.privacy.delta) == (0.0, 8.0, settled.delta)
    guarantee = made_up_guarantee(settled.privacy, settled.units)
    assert settled.promise(guarantee).epsilon == guarantee.epsilon


def test_counts_are_noised_and_every_user_counts_once() -> None:
    private, raw = plan(unit="user"), plan(private=False, mechanism="none", epsilon=None)
    assert [float(line) for line in raw._counts()] == [90.0, 30.0]
    noisy = [float(line) for line in private._counts()]
    assert sum(noisy) == pytest.approx(30, abs=6 * private.noise)  # one vote for each of 30 users
    assert noisy != [22.5, 7.5]
    assert private._counts() == private._counts()


def test_prompts_nobody_may_know_of_are_left_out() -> None:
    strange = [*LABELLED[:40], Record(id="x", prompt="a secret: ", completion="b", user="u0")]
    lines = plan(strange, unit="record", private=False, mechanism="none", epsilon=None)._counts()
    assert [float(line) for line in lines] == [30.0, 10.0]


def test_texts_say_their_prompt_and_follow_the_counts(tmp_path: Path) -> None:
    spec = SynthesisSpec(mechanism="none", condition="prompt", topics="good:,bad:", count=8, max_new_tokens=4)
    outcome = made_up(MECHANISMS.get("none"), tmp_path, spec=spec, records=LABELLED)
    assert outcome.topics == ("good:",) * 6 + ("bad:",) * 2
    assert len(outcome.texts) == 8
    assert json.loads((tmp_path / "step-000000.jsonl").read_text().splitlines()[0]) == "90.0"


# ---- lengths ---------------------------------------------------------------------------------------------------------

BRIEF, LONG = "A text that a person wrote (at most 2 words):", "A text that a person wrote (more than 2 words):"
SIZED = [Record(id=f"t{n}", text="one two three" if n % 3 else "one two", user=f"u{n // 6}") for n in range(120)]


def sized(**settings: object) -> TunedPlan:
    given = {"condition": "length", "topics": "", "lengths": "2", "unit": "user"} | settings
    return plan(SIZED, **given)  # type: ignore[arg-type]


def test_records_are_learned_behind_their_length_and_counted_by_it() -> None:
    raw = sized(private=False, mechanism="none", epsilon=None)
    assert {(record.prompt, record.completion) for record in raw.material.records} == {
        (BRIEF, " one two"),
        (LONG, " one two three"),
    }
    assert [(record.id, record.user) for record in raw.material.records] == [(r.id, r.user) for r in SIZED]
    assert [float(line) for line in raw._counts()] == [40.0, 80.0]
    both = plan(condition="prompt_length", lengths="1,2", private=False, mechanism="none", epsilon=None)
    assert both.material.spec.cells[:3] == (
        "good (at most 1 words):",
        "good (2 words):",
        "good (more than 2 words):",
    )
    assert [float(line) for line in both._counts()] == [0.0, 90.0, 0.0, 0.0, 30.0, 0.0]


@pytest.mark.parametrize("condition", ["length", "prompt_length"])
def test_counts_of_lengths_and_training_keep_one_promise(condition: str) -> None:
    settled = sized(epsilon=4.0) if condition == "length" else plan(condition=condition, epsilon=4.0, unit="user")
    assert settled.privacy.delta is not None
    guarantee = made_up_guarantee(settled.privacy, settled.units)
    promise = settled.promise(guarantee)
    accountant = PLDAccountant(value_discretization_interval=5e-3)
    step = dp_event.PoissonSampledDpEvent(guarantee.rate, dp_event.GaussianDpEvent(guarantee.noise_multiplier))
    accountant.compose(dp_event.SelfComposedDpEvent(step, STEPS))
    accountant.compose(dp_event.GaussianDpEvent(settled.noise))
    assert promise.epsilon == pytest.approx(accountant.get_epsilon(settled.delta), rel=2e-2)
    assert 0.7 * 4.0 < promise.epsilon <= 4.0
    assert "lengths" in promise.sentence()
    noisy = [float(line) for line in settled._counts()]
    assert len(noisy) == len(settled.material.spec.cells)
    assert abs(sum(noisy) - settled.units) < 5 * settled.noise * len(noisy) ** 0.5


def test_a_user_who_comes_or_goes_moves_all_counts_by_one_at_most() -> None:
    """However many texts a user has, of however many lengths and prompts."""
    rng = random.Random(1)
    for _ in range(20):
        records = [
            Record(
                id=f"r{n}", prompt=rng.choice(["good:", "bad:", "?"]), completion="a " * rng.randint(1, 5), user=user
            )
            for n in range(24)
            for user in [f"u{rng.randrange(6)}"]
        ]
        gone = rng.choice([record.user for record in records])
        settings = {"condition": "prompt_length", "lengths": "1,3", "unit": "user", "records_per_user": 30}
        counts = []
        for some in (records, [record for record in records if record.user != gone]):
            settled = plan(some, **settings)  # type: ignore[arg-type]
            place = {cell: number for number, cell in enumerate(settled.material.spec.cells)}
            votes = np.array([place.get(record.prompt or "", len(place)) for record in settled.material.records])
            counts.append(histogram(votes, settled.members.records, candidates=len(place) + 1)[:-1])
        assert np.linalg.norm(counts[0] - counts[1]) <= 1 + 1e-9


def test_texts_of_each_length_are_written_as_often_as_counted(tmp_path: Path) -> None:
    spec = SynthesisSpec(mechanism="none", condition="length", lengths="2", count=9, max_new_tokens=4)
    outcome = made_up(MECHANISMS.get("none"), tmp_path, spec=spec, records=SIZED)
    assert outcome.topics == (BRIEF,) * 3 + (LONG,) * 6
    assert any("by length" in release.what for release in outcome.releases)


def test_spans_stay_on_what_they_mark() -> None:
    told = Record(id="a", text="call Ana now", spans=(Span(start=5, end=8, kind="NAME"),))
    asked = Record(
        id="b",
        prompt="to Bo:",
        completion=" hi Bo",
        spans=(Span(start=3, end=5, kind="N"), Span(start=11, end=13, kind="N")),
    )
    spec = SynthesisSpec(mechanism="none", condition="prompt_length", topics="to Bo:", instruction="A text:")
    by_length = replace(spec, condition="length", topics="")
    for record, how, marked in ((told, by_length, ["Ana"]), (asked, spec, ["Bo"])):
        (new,) = behind_cells([record], how)
        assert [new.plain[span.start : span.end] for span in new.spans] == marked


@pytest.mark.parametrize("lengths", ["", "0,4", "8,4", "4,4", "four", "4,,8", "-1"])
def test_borders_that_do_not_rise_are_refused(lengths: str) -> None:
    with pytest.raises(BadInput, match="no rising numbers"):
        SynthesisSpec(mechanism="none", condition="length", lengths=lengths)


def test_lengths_are_counted_where_a_model_is_tuned_on_plain_texts() -> None:
    with pytest.raises(BadInput, match="tunes none"):
        MECHANISMS.get("private_evolution").check(
            SynthesisSpec(mechanism="private_evolution", epsilon=8.0, condition="length")
        )
    with pytest.raises(BadInput, match="have prompts"):
        plan(LABELLED, condition="length", topics="")
    with pytest.raises(BadInput, match="nobody knows"):
        SynthesisSpec(mechanism="none", condition="length", instruction="About {topic}:", topics="a,b")


@pytest.mark.parametrize("counts", [[0.0, 0.0], [-3.0, -1.0]])
def test_where_no_count_is_left_prompts_take_equal_shares(counts: list[float]) -> None:
    assert shared_out(counts, ["a", "b"], count=4) == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("records", "settings", "complaint"),
    [
        (LABELLED, {"condition": "none", "topics": ""}, "have prompts"),
        ([Record(id="a", text="x"), Record(id="b", text="y")], {}, "needs a prompt in each record"),
        (LABELLED, {"topics": ""}, "needs a prompt in each record"),
        (LABELLED, {"relation": REPLACE_ONE}, "come or go"),
        (LABELLED, {"delta": 0.5}, "publishing one of them whole"),
        (LABELLED[:1], {}, "cannot hide one"),
        ([Record(id="a", messages=(Message(role="user", content="x"),))], {}, "turn by turn"),
    ],
)
def test_impossible_asks_are_refused(records: list[Record], settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        plan(records, **settings)
