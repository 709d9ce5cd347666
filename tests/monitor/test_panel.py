# SPDX-License-Identifier: Apache-2.0
"""Who is on the panel: by hash, on both sides alike, within the budget."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.canaries import plant
from reticent.data.split import from_labels, split
from reticent.monitor.panel import CONTROL, NO_TIER, Panel, budget_of, fitting_panel, looks_of, make_panel
from reticent.testing.tiny import tiny_tokenizer


def mails(users: int = 60, each: int = 8) -> list[Record]:
    rng = random.Random(0)
    return [
        Record(id=f"u{user}m{mail}", text="x" * rng.randrange(5, 60), user=f"user {user}")
        for user in range(users)
        for mail in range(each)
    ]


def length(record: Record) -> int:
    return len(record.plain)


def ids(panel: Panel, role: str, *, member: bool | None = None) -> set[str]:
    rows = panel.of(role, member=member)
    return {record.id for record, kept in zip(panel.records, rows, strict=True) if kept}


def test_sides_are_as_large_as_asked_and_by_the_same_people() -> None:
    records = mails()
    panel = make_panel(records, split(records, unit="user", seed=0), size=30)
    assert len(ids(panel, "evaluate", member=True)) == len(ids(panel, "evaluate", member=False)) == 30
    assert panel.user_member[panel.role == "evaluate"].all()
    fresh = panel.role == "fresh"
    assert 10 < fresh.sum() < 60
    assert not (panel.member | panel.user_member)[fresh].any()
    assert set(panel.tier) == {NO_TIER}


def test_texts_of_users_on_both_sides_come_up_at_the_same_rate() -> None:
    """20 splits; the mean difference of the shares has a standard error of about 0.01."""
    records = mails(users=200)
    apart = []
    for seed in range(20):
        coins = split(records, unit="user", seed=seed)
        panel = make_panel(records, coins, size=100)
        there = (coins.role == "evaluate") & ~coins.member
        taken = [(~panel.member & (panel.user_member == side)).sum() for side in (True, False)]
        rates = [taken[not side] / (there & (coins.user_member == side)).sum() for side in (True, False)]
        apart.append(rates[0] - rates[1])
    assert abs(np.mean(apart)) < 0.03


def test_a_larger_panel_holds_a_smaller_one_and_more_data_move_nobody() -> None:
    records = mails()
    small = make_panel(records, split(records, unit="record", seed=3), size=10)
    large = make_panel(records, split(records, unit="record", seed=3), size=25)
    for member in (True, False):
        assert ids(small, "evaluate", member=member) < ids(large, "evaluate", member=member)
    assert ids(large, "fresh") == set()
    again = make_panel(records[::-1], split(records[::-1], unit="record", seed=3), size=25)
    assert ids(again, "evaluate") == ids(large, "evaluate")


def test_given_membership_has_no_fresh_side() -> None:
    records = mails()
    coins = from_labels(records, {record.id: i % 2 == 0 for i, record in enumerate(records)})
    panel = make_panel(records, coins, size=500)
    assert set(panel.role) == {"evaluate"}
    assert len(panel) == (coins.role == "evaluate").sum()


def test_behind_a_cap_texts_tell_users_apart_only() -> None:
    records = mails(each=12)
    coins = split(records, unit="user", seed=0, max_per_user=2)
    panel = make_panel(records, coins, size=1000)
    role = dict(zip(coins.record_id, coins.role, strict=True))
    assert ids(panel, "evaluate") <= {id_ for id_, one in role.items() if one == "evaluate"}
    assert {id_ for id_, one in role.items() if one == "fresh"} <= ids(panel, "fresh")


def test_a_budget_is_kept_and_used() -> None:
    records = mails(users=200)
    panel = make_panel(records, split(records, unit="user", seed=0), budget=9000, length=length)
    spent = sum(map(length, panel.records))
    assert 8500 < spent <= 9000


def test_a_tiny_budget_still_buys_ten_of_each_side() -> None:
    records = mails()
    panel = make_panel(records, split(records, unit="record", seed=0), budget=1, length=length)
    assert len(ids(panel, "evaluate")) == 20


def test_all_secrets_are_looked_at_and_controls_for_a_third_of_the_budget() -> None:
    records = mails(users=200)
    coins = split(records, unit="user", seed=0)
    planting = plant(records, coins, secrets=12, controls=200, seed=0)
    panel = make_panel(records, coins, planting.canaries, budget=9000, length=length)
    secrets = panel.of("canary")
    assert (secrets & (panel.tier != CONTROL)).sum() == 12
    spent = sum(length(record) for record, kept in zip(panel.records, secrets, strict=True) if kept)
    assert 2900 < spent <= 3000
    assert {int(tier) for tier in panel.tier[secrets]} >= {CONTROL, 0, 1}
    assert (panel.member[secrets] == (panel.tier[secrets] > 0)).all()
    whole = make_panel(records, coins, planting.canaries, size=5)
    assert whole.of("canary").sum() == 212


def test_looks_and_budget() -> None:
    assert looks_of(3, 100, None) == 4
    assert looks_of(3, 100, 50) == 7
    assert looks_of(3, 100, 70) == 6
    assert budget_of(1000, 3, 4) == 150


def test_the_budget_follows_from_the_training_alone() -> None:
    records = mails(users=150)
    coins = split(records, unit="user", seed=0)
    trained = [record for record, member in zip(records, coins.member, strict=True) if member]
    how: dict[str, Any] = {"trained": trained, "batch_size": 8, "every": None, "tokenizer": tiny_tokenizer()}
    short = fitting_panel(records, coins, (), epochs=3, max_tokens=30, **how)
    again = fitting_panel(records, coins, (), epochs=3, max_tokens=30, **how)
    more = fitting_panel(records, coins, (), epochs=3, max_tokens=30, **(how | {"every": 10}))
    assert [record.id for record in short.records] == [record.id for record in again.records]
    assert len(more) < len(short)
    tokens = [min(30, length(record)) for record in short.records]
    assert sum(tokens) <= budget_of(sum(min(30, length(record)) for record in trained), 3, 4)


def test_a_side_must_have_somebody() -> None:
    records = mails(users=2)
    coins = split(records, unit="record", seed=0, known_fraction=0.0)
    with pytest.raises(BadInput, match="no held-out records"):
        make_panel(
            [record for record, member in zip(records, coins.member, strict=True) if member],
            coins.take(coins.member),
            size=5,
        )
