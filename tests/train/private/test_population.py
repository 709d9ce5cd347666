# SPDX-License-Identifier: Apache-2.0
"""Which records a plan is for: their very tokens, read once, and nothing accounted for twice."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.models.encode import EncodedRecord
from reticent.privacy import accounting
from reticent.privacy.plan import PrivacyPlan, make_plan
from reticent.privacy.sampling import Population
from reticent.privacy.spec import PrivacySpec
from reticent.train.private.population import population_of, read_of
from reticent.train.private.settings import fitting_plan

KEY = hashlib.sha256(b"a key for tests").digest()
DATA: list[dict[str, Any]] = [
    {"input_ids": [5 + i, 6, 7 + i % 3], "labels": [-100, 6, 7 + i % 3], "user": f"u{i % 4}"} for i in range(12)
]


def plan(people: Population, **settings: Any) -> PrivacyPlan:
    return make_plan(PrivacySpec(**({"noise_multiplier": 1.0} | settings)), people, batch_size=3, steps=5, key=KEY)


def settle(made: Any, data: Any, people: Population | None = None) -> PrivacyPlan:
    return fitting_plan(made, people, read_of(data), SimpleNamespace(max_steps=-1))


def changed(place: int, **columns: Any) -> list[dict[str, Any]]:
    return [row | columns if i == place else row for i, row in enumerate(DATA)]


def test_contents_cover_ids_labels_and_order() -> None:
    others = [
        DATA,
        changed(3, input_ids=[8, 9, 7]),
        changed(3, labels=[-100, -100, 7]),
        changed(3, labels=None),
        [DATA[4], *DATA[1:4], DATA[0], *DATA[5:]],
        DATA[:-1],
        [*DATA, DATA[0]],
    ]
    assert len({read_of(data).contents for data in others}) == len(others)
    as_ids = [{"input_ids": [1, 2], "labels": [1, 2]}, {"input_ids": [3], "labels": [3]}]
    cut_elsewhere = [{"input_ids": [1], "labels": [1]}, {"input_ids": [2, 3], "labels": [2, 3]}]
    assert read_of(as_ids).contents != read_of(cut_elsewhere).contents


def test_encoded_records_and_those_of_a_data_set_have_the_same_contents() -> None:
    encoded = [
        EncodedRecord(token_id=np.array(row["input_ids"], dtype=np.int32), trained=np.array(row["labels"]) != -100)
        for row in DATA
    ]
    assert read_of(encoded).contents == read_of(DATA).contents
    assert read_of(encoded).rows.length.tolist() == [3] * 12


def test_a_population_is_that_of_the_records() -> None:
    found = population_of(DATA, max_tokens=9)
    assert (found.users[5], found.lengths, found.max_tokens) == ("u1", (3,) * 12, 9)
    assert found.contents == read_of(DATA).contents
    assert read_of(iter(DATA)).users == ()


def test_each_record_is_read_once() -> None:
    class Counted(list[dict[str, Any]]):
        def __iter__(self) -> Any:
            for place in range(len(self)):
                reads.append(place)
                yield self[place]

    reads: list[int] = []
    read_of(Counted(DATA))
    assert reads == list(range(12))


@pytest.mark.parametrize("unit", ["record", "user"])
def test_a_plan_for_other_texts_of_the_same_lengths_is_refused(unit: str) -> None:
    """The same noise on other gradients could be subtracted."""
    made = plan(population_of(DATA), unit=unit)
    assert settle(made, DATA).fingerprint == made.fingerprint
    for data in (changed(3, input_ids=[8, 9, 7]), changed(3, labels=[-100, -100, 7]), DATA[::-1], DATA[:-1]):
        with pytest.raises(BadInput, match="another population"):
            settle(made, data)


def test_a_plan_made_for_lengths_alone_is_taken_and_then_is_for_the_contents() -> None:
    by_hand = Population(users=population_of(DATA).users, lengths=(3,) * 12)
    made = plan(by_hand, unit="user")
    settled = settle(made, DATA, by_hand)
    assert settled.fingerprint == settle(lambda people: plan(people, unit="user"), DATA).fingerprint
    assert settled.fingerprint != settle(made, changed(3, labels=None), by_hand).fingerprint
    assert replace(settled, data=made.data) == made


def test_contents_that_are_given_must_be_those_of_the_data() -> None:
    other = replace(population_of(DATA), contents=read_of(DATA[::-1]).contents)
    with pytest.raises(BadInput, match="not that of train_dataset"):
        settle(plan(other), DATA, other)


@pytest.mark.parametrize(
    "settings",
    [{}, {"unit": "user"}, {"unit": "user", "user_sampling": "record", "records_per_user": 2}],
    ids=str,
)
def test_a_plan_whose_counts_are_not_those_of_the_population_is_refused(settings: dict[str, Any]) -> None:
    made = plan(population_of(DATA), **settings)
    settle(made, DATA)
    for wrong in (
        replace(made, units=made.units + 1),
        replace(made, sampler=replace(made.sampler, units=made.sampler.units - 1)),
    ):
        with pytest.raises(BadInput, match="another population"):
            settle(wrong, DATA)


def test_noise_is_calibrated_once_and_not_at_all_where_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    calibrate = accounting.calibrate
    monkeypatch.setattr(accounting, "calibrate", lambda *given, **named: calls.append(1) or calibrate(*given, **named))
    settle(lambda people: plan(people, noise_multiplier=None, epsilon=8.0), DATA)
    assert calls == [1]
    settle(plan, DATA)
    assert calls == [1]
