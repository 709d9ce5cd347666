# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.coin import uniform
from reticent.data.split import from_files, from_labels, split


def records(users: int = 40, each: int = 10) -> list[Record]:
    return [Record(id=f"u{u}-{i}", text=f"text {i}", user=f"u{u}") for u in range(users) for i in range(each)]


def test_unit_record_follows_the_coin_of_each_id() -> None:
    data = [Record(id=f"r{i}", text="x") for i in range(200)]
    coins = split(data, unit="record", seed=5, probability=0.3)
    assert coins.member.tolist() == [uniform(5, "record", f"r{i}") < 0.3 for i in range(200)]
    assert coins.user_member.tolist() == coins.member.tolist()
    assert (coins.unit, coins.probability, coins.seed) == ("record", 0.3, 5)
    expected = ["known" if uniform(5, "known", f"r{i}") < 0.1 else "evaluate" for i in range(200)]
    assert coins.role.tolist() == expected


def test_unit_user_against_a_slow_twin() -> None:
    data = records()
    coins = split(data, unit="user", seed=1, probability=0.4, train_fraction=0.6)
    for row, record in enumerate(data):
        user_in = uniform(1, "user", record.user or "") < 0.4
        train = uniform(1, "train", record.id) < 0.6
        assert coins.user_member[row] == user_in
        assert coins.member[row] == (user_in and train)
        if train and not user_in:
            assert coins.role[row] in ("spare", "known")
        if not train:
            assert coins.role[row] == "evaluate"


@pytest.mark.parametrize("unit", ["record", "user"])
def test_added_records_move_no_coin(unit: str) -> None:
    few, many = split(records(), unit=unit, seed=2), split(records(users=60)[::-1], unit=unit, seed=2)
    member = dict(zip(many.record_id, many.member, strict=True))
    assert all(member[id_] == was for id_, was in zip(few.record_id, few.member, strict=True))


def test_coins_are_independent_not_exactly_half() -> None:
    data = [Record(id=f"r{i}", text="x") for i in range(100)]
    counts = np.array([split(data, unit="record", seed=seed).member.sum() for seed in range(200)])
    # binomial(100, .5): mean 50, variance 25
    assert abs(counts.mean() - 50) < 1.5
    assert 17 < counts.var() < 35


def test_users_on_both_sides_show_as_many_fresh_texts() -> None:
    data = records(users=400, each=8)
    coins = split(data, unit="user", seed=0)
    fresh = (coins.role == "evaluate") & ~coins.member
    per_user = {
        side: np.mean(
            [np.sum(fresh & (coins.user == user)) for user in np.unique(coins.user[coins.user_member == side])]
        )
        for side in (True, False)
    }
    assert abs(per_user[True] - per_user[False]) < 0.4


def test_users_without_a_train_record_are_spare_on_both_sides() -> None:
    data = records(users=300, each=2)
    coins = split(data, unit="user", seed=0, train_fraction=0.3)
    for user in np.unique(coins.user.astype(str)):
        mine = coins.user == user
        if not any(uniform(0, "train", id_) < 0.3 for id_ in coins.record_id[mine]):
            assert set(coins.role[mine]) <= {"spare", "known"}


def test_known_is_cut_by_a_number_that_knows_nothing_of_the_side() -> None:
    coins = split(records(users=50, each=20), unit="record", seed=0, known_fraction=0.5, max_known=100)
    expected = [uniform(0, "known", id_) < 100 / 1000 for id_ in coins.record_id]
    assert (coins.role == "known").tolist() == expected
    assert 60 < sum(expected) < 140
    assert (split(records(), unit="record", seed=0, known_fraction=0).role == "evaluate").all()


@pytest.mark.parametrize(
    ("data", "arguments", "why"),
    [
        ([Record(id=str(i), text="x") for i in range(50)], {"unit": "user"}, "50 of 50 records have no user"),
        (records(users=1, each=50), {"unit": "user"}, "one user"),
        (records(users=1, each=5), {"unit": "record"}, "too few"),
        (records(), {"unit": "user", "probability": 1e-9}, "no members and no users in"),
        (records(), {"unit": "record", "probability": 1 - 1e-9}, "no held-out records"),
        (records(), {"unit": "record", "probability": 1.0}, "between 0 and 1"),
        (records(), {"unit": "user", "train_fraction": 0.0}, "between 0 and 1"),
        (records(users=40, each=1), {"unit": "user"}, "no held-out records"),
        (records() + records(), {"unit": "record"}, "given twice"),
        (records(), {"unit": "mail"}, "not a known choice"),
        (records(), {"unit": "record", "known_fraction": 1.0}, r"in \[0, 1\)"),
    ],
)
def test_refused(data: list[Record], arguments: dict, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        split(data, seed=0, **arguments)


def test_from_files() -> None:
    data = records()
    coins = from_files(data[:150], data[150:], seed=3)
    assert coins.member.tolist() == [True] * 150 + [False] * 250
    assert coins.user_member.tolist() == [True] * 150 + [False] * 250
    assert (coins.unit, coins.seed) == ("given", -1)
    assert 5 < (coins.role == "known").sum() < 80


def test_from_labels_knows_member_users() -> None:
    data = records(users=4, each=10)
    coins = from_labels(data, {record.id: record.id == "u1-3" or record.user == "u2" for record in data})
    assert set(coins.user[coins.user_member]) == {"u1", "u2"}
    assert coins.member.sum() == 11


@pytest.mark.parametrize(
    ("members", "held_out", "why"),
    [
        (records(), [], "all that can be evaluated are members"),
        ([], records(), "all that can be evaluated are held-out"),
        (records()[:20], records()[10:], "among the members and among the held-out"),
        (records()[:2], records()[2:4], "too few"),
    ],
)
def test_given_files_refused(members: list[Record], held_out: list[Record], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        from_files(members, held_out)


def test_given_labels_must_match_the_data() -> None:
    data = records()
    label = {record.id: index % 2 == 0 for index, record in enumerate(data)}
    with pytest.raises(BadInput, match=r"'stranger'.*not in the data"):
        from_labels(data, label | {"stranger": True})
    label.pop("u3-3")
    with pytest.raises(BadInput, match=r"'u3-3'.*not in the membership"):
        from_labels(data, label)


def uneven(users: int = 300) -> list[Record]:
    """Users with 1 to 30 records, all in one of 30 sizes."""
    return [Record(id=f"u{u}-{i}", text=f"text {i}", user=f"u{u}") for u in range(users) for i in range(1 + u % 30)]


@pytest.mark.parametrize("unit", ["record", "user"])
def test_no_more_of_a_user_than_the_cap_are_trained_on(unit: str) -> None:
    coins, free = (split(uneven(), unit=unit, seed=0, max_per_user=cap) for cap in (3, None))
    for user in np.unique(coins.user.astype(str)):
        mine = coins.user == user
        assert coins.member[mine].sum() <= 3
        if free.member[mine].sum() <= 3 and unit == "user":
            assert coins.member[mine].tolist() == free.member[mine].tolist()
    dropped = free.member & ~coins.member
    assert dropped.sum() > 300
    assert set(coins.role[dropped]) == {"spare"}  # neither trained on, nor evaluated, nor known to an attacker
    assert (coins.role == "fresh").any() == (unit == "user")


def test_a_cap_leaves_the_coins_of_a_split_by_record_fair() -> None:
    """Who takes part is decided without the coin: 20 splits of some 860 coins, 17,000 in all, within 4 sd of a half."""
    data = uneven()
    parts = [split(data, unit="record", seed=seed, max_per_user=3, known_fraction=0) for seed in range(20)]
    taking = np.concatenate([coins.member[coins.role == "evaluate"] for coins in parts])
    assert abs(taking.mean() - 0.5) < 4 * 0.5 / len(taking) ** 0.5
    for coins in parts[:3]:
        by_hash = sorted(range(len(data)), key=lambda row: uniform(coins.seed, "cap", data[row].id))
        of_user: dict[str | None, list[int]] = {}
        for row in by_hash:
            of_user.setdefault(data[row].user, []).append(row)
        first = {row for rows in of_user.values() for row in rows[:3]}
        assert set(np.flatnonzero(coins.role == "evaluate")) == first


def test_a_cap_in_a_split_by_user_treats_both_sides_alike() -> None:
    """Fresh texts are those without a cap; held-out records keep the members' proportion of each kind of user."""
    data = uneven()
    coins, free = (split(data, unit="user", seed=4, max_per_user=2, known_fraction=0), split(data, unit="user", seed=4))
    fresh = coins.attacked & ~coins.member
    assert fresh.tolist() == (free.attacked & ~free.member).tolist()
    heavy = np.array([int(str(user)[1:]) % 30 >= 15 for user in coins.user])
    inside = coins.user_member & (coins.role == "evaluate")
    of_members, of_held_out = (heavy[inside & (coins.member == side)].mean() for side in (True, False))
    assert abs(of_members - of_held_out) < 0.12  # with all fresh texts the held-out would be heavy by some 0.2 more
    everything = coins.user_member & fresh
    assert heavy[everything].mean() - of_members > 0.12


def test_a_cap_needs_users() -> None:
    data = [Record(id=f"r{i}", text="x") for i in range(20)]
    with pytest.raises(BadInput, match=r"max_records_per_user: 20 of 20 records have no user"):
        split(data, unit="record", seed=0, max_per_user=1)
    with pytest.raises(BadInput, match="max_per_user=0"):
        split(records(), unit="record", seed=0, max_per_user=0)
