# SPDX-License-Identifier: Apache-2.0
"""Units and batches: each unit behind one text, and one unit more or less moves no other."""

from __future__ import annotations

import hashlib

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.spec import ADD_OR_REMOVE, REPLACE_ONE, ZERO_OUT
from reticent.synthesis.mechanisms.private_prediction import PredictionPlan, private_prediction
from reticent.synthesis.reference_units import ReferenceUnits, batches_of, refuse_reuse, units_of
from reticent.synthesis.synthesis_mechanism import SynthesisMaterial
from reticent.synthesis.synthesis_spec import SynthesisSpec

KEY = hashlib.sha256(b"references").digest()
RECORDS = [Record(id=f"r{n}", text=f"text {n}", user=f"u{n % 10}") for n in range(40)]


def units(count: int) -> ReferenceUnits:
    return ReferenceUnits(names=tuple(f"u{n}" for n in range(count)), records=tuple((n,) for n in range(count)))


def test_a_user_has_so_many_records_at_most_whoever_else_is_there() -> None:
    whole = units_of(RECORDS, unit="user", most=3, key=KEY)
    assert len(whole) == 10
    assert whole.most_records == 3
    others = [record for record in RECORDS if record.user != "u4"]
    left = units_of(others, unit="user", most=3, key=KEY)
    for name, counted in zip(left.names, left.records, strict=True):
        mine = whole.records[whole.names.index(name)]
        assert [others[number].id for number in counted] == [RECORDS[number].id for number in mine]


@pytest.mark.parametrize("gone", [0, 7, 33])
def test_a_unit_that_goes_leaves_the_others_where_they_were(gone: int) -> None:
    """34 and 33 units make as many batches of 5; how many units there are counts as known to all."""
    whole = units(34)
    fewer = ReferenceUnits(
        names=tuple(name for number, name in enumerate(whole.names) if number != gone), records=units(33).records
    )
    before, after = (
        batches_of(some, texts=5, references=5, relation=ADD_OR_REMOVE, key=KEY) for some in (whole, fewer)
    )
    for batch, other in zip(before, after, strict=True):
        assert {whole.names[unit] for unit in batch} - {f"u{gone}"} == {fewer.names[unit] for unit in other}


@pytest.mark.parametrize("relation", [ZERO_OUT, REPLACE_ONE])
def test_batches_of_units_that_stay_are_whole_and_follow_from_places(relation: str) -> None:
    batches = batches_of(units(23), texts=5, references=4, relation=relation, key=KEY)
    assert [len(batch) for batch in batches] == [4] * 5
    renamed = ReferenceUnits(names=("other", *units(23).names[1:]), records=units(23).records)
    assert batches_of(renamed, texts=5, references=4, relation=relation, key=KEY) == batches
    refuse_reuse(batches)


@pytest.mark.parametrize("relation", [ADD_OR_REMOVE, ZERO_OUT])
def test_no_unit_is_behind_two_texts_and_another_key_gives_other_batches(relation: str) -> None:
    batches = batches_of(units(100), texts=20, references=5, relation=relation, key=KEY)
    refuse_reuse(batches)
    assert batches != batches_of(units(100), texts=20, references=5, relation=relation, key=bytes(range(32)))


@pytest.mark.parametrize(("relation", "words"), [(ZERO_OUT, "zero out one of"), (REPLACE_ONE, "replace one of")])
def test_a_promise_names_its_relation_and_who_is_replaced_gets_half_the_clip(relation: str, words: str) -> None:
    def plan(name: str) -> PredictionPlan:
        spec = SynthesisSpec(epsilon=2.0, count=4, references=5, relation=name)
        return private_prediction(SynthesisMaterial(records=RECORDS, spec=spec, key=KEY))

    usual, other = plan(ADD_OR_REMOVE), plan(relation)
    assert words in other.promise.sentence()
    assert other.promise.epsilon == pytest.approx(usual.promise.epsilon, rel=1e-9)
    assert other.clip == pytest.approx(usual.clip / (2 if relation == REPLACE_ONE else 1))


def test_dice_fill_batches_evenly() -> None:
    sizes = [len(b) for b in batches_of(units(800), texts=100, references=8, relation=ADD_OR_REMOVE, key=KEY)]
    assert sum(sizes) == 800
    assert 1.5 < (sum((size - 8) ** 2 for size in sizes) / 100) ** 0.5 < 4.5


def test_a_unit_behind_two_texts_is_a_broken_promise() -> None:
    with pytest.raises(GuaranteeViolated, match="behind two"):
        refuse_reuse(((0, 1), (1, 2)))


def test_too_few_units_are_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(BadInput, match=r"needs 80 units, and there are 30.*--count 3") as caught:
        batches_of(units(30), texts=10, references=8, relation=ADD_OR_REMOVE, key=KEY)
    assert "fewer --references" in str(caught.value)
    with pytest.raises(BadInput, match="Give at least 8 units"):
        batches_of(units(3), texts=1, references=8, relation=ZERO_OUT, key=KEY)


def test_records_without_users_or_with_one_id_are_refused() -> None:
    with pytest.raises(BadInput, match="1 of 2 records: have no user"):
        units_of([Record(id="a", text="x", user="u"), Record(id="b", text="y")], unit="user", most=1, key=KEY)
    with pytest.raises(BadInput, match="an id twice"):
        units_of([Record(id="a", text="x"), Record(id="a", text="y")], unit="record", most=1, key=KEY)
    with pytest.raises(BadInput, match="holds no record"):
        units_of([], unit="record", most=1, key=KEY)
