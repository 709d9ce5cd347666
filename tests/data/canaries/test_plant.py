# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.data.canaries import Canary, Planting, plant, read_canaries, write_canaries
from reticent.data.coin import uniform
from reticent.data.split import split

RECORDS = [Record(id=f"r{i}", text=f"text {i}") for i in range(50)]
COINS = split(RECORDS, unit="record", seed=0)


def planted(**arguments: object) -> Planting:
    return plant(RECORDS, COINS, **{"secrets": 30, "controls": 100, "seed": 4, **arguments})


def test_tiers_coins_and_copies() -> None:
    planting = planted()
    with_coin, controls = planting.canaries[:30], planting.canaries[30:]
    assert [canary.repetitions for canary in with_coin] == [1, 4, 16] * 10
    assert [canary.planted for canary in with_coin] == [uniform(4, "canary", c.id) < 0.5 for c in with_coin]
    assert all(canary.is_control and not canary.planted and canary.probability == 0 for canary in controls)
    assert len({canary.text for canary in planting.canaries}) == 130
    copies = Counter(record.text for record in planting.to_train)
    assert copies == {canary.text: canary.repetitions for canary in with_coin if canary.planted}
    ids = [record.id for record in planting.to_train]
    assert len(set(ids)) == len(ids)
    assert all(id_.startswith("canary/secret_number/") and "/copy" in id_ for id_ in ids)


def test_each_secret_is_a_user_of_its_own_where_there_are_users() -> None:
    assert {record.user for record in planted().to_train} == {None}
    data = [Record(id=f"r{i}", text=f"text {i}", user=f"u{i % 9}") for i in range(50)]
    planting = plant(data, split(data, unit="user", seed=0), secrets=30, controls=0)
    assert {record.user: record.text for record in planting.to_train} == {
        canary.id: canary.text for canary in planting.canaries if canary.planted
    }


def of_shape(shape: str, n: int = 50) -> list[Record]:
    if shape == "pair":
        return [Record(id=f"r{i}", prompt="Q", completion=f"text {i}") for i in range(n)]
    turns = [(Message(role="user", content="Q"), Message(role="assistant", content=f"text {i}")) for i in range(n)]
    return [Record(id=f"r{i}", messages=messages) for i, messages in enumerate(turns)]


@pytest.mark.parametrize("shape", ["pair", "chat"])
@pytest.mark.parametrize("kind", ["secret_number", "passphrase", "email"])
def test_secrets_have_the_shape_of_the_data_and_lie_in_what_is_trained_on(shape: str, kind: str) -> None:
    records = of_shape(shape)
    planting = plant(records, split(records, unit="record", seed=0), kind=kind, secrets=20, controls=5)
    trained = {copy.id.rpartition("/")[0]: copy for copy in planting.to_train}
    assert set(trained) == {canary.id for canary in planting.canaries if canary.planted}
    for canary in planting.canaries:
        record = canary.record
        assert record.plain[canary.span.start : canary.span.end] == canary.secret
        assert canary.secret in record.trained_text
        assert canary.text[: canary.start].strip() not in record.trained_text
        assert "".join(text for _, text in record.pieces).replace(" ", "") == canary.text.replace(" ", "")
        if canary.planted:
            copy = trained[canary.id]
            assert (copy.pieces, copy.user) == (record.pieces, None)
    example = planting.canaries[0].record
    if shape == "pair":
        assert example.prompt == example.prompt.rstrip()
        assert example.completion.startswith(" ")
    else:
        assert [message.role for message in example.messages] == ["user", "assistant"]


def test_most_records_decide_the_shape() -> None:
    records = [*of_shape("chat", 20), *(Record(id=f"t{i}", text=f"text {i}") for i in range(21))]
    planting = plant(records, split(records, unit="record", seed=0), secrets=9)
    assert {canary.shape for canary in planting.canaries} == {"text"}


def test_no_secret_made_of_the_data_is_in_the_data_already() -> None:
    """With six of the same words over and over, most walks are in the data; those are thrown away."""
    words = [f"{a}{b}" for a in "bcd" for b in "aeiouklm"]
    rng = np.random.default_rng(0)
    records = [Record(id=str(i), text=" ".join(rng.choice(words, 9))) for i in range(3000)]
    planting = plant(records, split(records, unit="record", seed=0), kind="bigram", secrets=30, controls=30)
    joined = "\n".join(record.plain for record in records)
    assert not any(canary.secret in joined for canary in planting.canaries)


def test_a_kind_of_tokens_takes_the_vocabulary() -> None:
    words = [f"{a}{b}{c}" for a in "bcd" for b in "aeiou" for c in "kmnprst"]
    planting = planted(kind="new_token", secrets=20, controls=20, vocabulary=words)
    assert {canary.secret for canary in planting.canaries} <= set(words)
    assert {canary.space for canary in planting.canaries} == {105}
    with pytest.raises(BadInput, match="whole_words"):
        planted(kind="new_token")


def test_shape_and_place_are_in_the_file(tmp_path: Path) -> None:
    canary = Canary(
        id="canary/x/0", kind="x", repetitions=4, planted=True, text="it is 12.", space=2**90, probability=0.5,
        start=6, end=8, shape="chat",
    )  # fmt: skip
    write_canaries(tmp_path / "canaries.parquet", [canary])
    assert read_canaries(tmp_path / "canaries.parquet") == (canary,)


def test_membership_is_aligned_with_the_secrets() -> None:
    planting = planted()
    coins = planting.membership
    assert list(coins.record_id) == [canary.id for canary in planting.canaries]
    assert coins.member.tolist() == [canary.planted for canary in planting.canaries]
    assert set(coins.role) == {"canary"}
    assert coins.probability == 0.5
    first = planting.canaries[0]
    assert first.record == Record(id=first.id, text=first.text)
    assert first.record.plain[first.span.start : first.span.end] == first.secret == first.text[21:]


def test_more_secrets_or_controls_leave_the_first_ones() -> None:
    few, many = planted(), planted(controls=200)
    assert many.canaries[:130] == few.canaries
    assert many.to_train == few.to_train
    assert planted(seed=5).canaries[0].text != few.canaries[0].text


def test_coins_are_independent() -> None:
    counts = np.array([sum(c.planted for c in planted(controls=0, seed=seed).canaries) for seed in range(300)])
    # binomial(30, .5): mean 15, variance 7.5
    assert abs(counts.mean() - 15) < 0.6
    assert 5.5 < counts.var() < 9.8


def test_file(tmp_path: Path) -> None:
    canaries = planted(kind="passphrase").canaries
    write_canaries(tmp_path / "canaries.parquet", canaries)
    assert read_canaries(tmp_path / "canaries.parquet") == canaries
    COINS.write(tmp_path / "other.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"no")
    for name, why in (("other", "no list of canaries"), ("broken", "no readable"), ("missing", "no readable")):
        with pytest.raises(BadInput, match=why):
            read_canaries(tmp_path / f"{name}.parquet")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"kind": "secret_numbr"}, "Did you mean 'secret_number'"),
        ({"secrets": 0}, "greater than 0"),
        ({"controls": -1}, "at least 0"),
        ({"controls": 600_000}, "there are only 1000000"),
        ({"probability": 1.0}, "between 0 and 1"),
        ({"repetitions": ()}, "distinct and at least 1"),
        ({"repetitions": (0, 1)}, "distinct and at least 1"),
        ({"repetitions": (4, 4)}, "distinct and at least 1"),
    ],
)
def test_refused(arguments: dict, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        planted(**arguments)


def test_ids_of_records_must_not_collide() -> None:
    records = [Record(id=f"canary/secret_number/{i}", text="x") for i in range(20)]
    with pytest.raises(BadInput, match="as canaries do"):
        plant(records, split(records, unit="record", seed=0))
