# SPDX-License-Identifier: Apache-2.0
"""Texts of tuned models: counts of prompts are noised and paid for, and together with the training ε is kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.privacy.spec import REPLACE_ONE
from reticent.synthesis.synthesis_mechanism import MECHANISMS, SynthesisMaterial
from reticent.synthesis.synthesis_spec import SynthesisSpec
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
