# SPDX-License-Identifier: Apache-2.0
"""Who is compared: by coins of records, of users, of whole users, and by lists."""

from __future__ import annotations

import numpy as np

from reticent.auditing.synthetic.text_units import coin_units, record_units, user_units
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.split import from_files, split

MAILS = [Record(id=f"{user}-{number}", text="hi", user=f"u{user}") for user in range(40) for number in range(4)]


def test_texts_of_both_sides_were_chosen_by_the_same_coin() -> None:
    membership = split(MAILS, unit="user", seed=0)
    units = user_units(membership)
    assert units is not None
    assert set(membership.role[units.rows]) <= {"evaluate", "known", "spare"}
    assert not membership.role[units.rows & ~membership.user_member].tolist().count("evaluate")
    assert membership.member[units.rows & membership.user_member].all()
    count = {name: sum(units.owner[row] == name for row in np.flatnonzero(units.rows)) for name in units.names}
    inside = np.mean([count[name] for name, member in zip(units.names, units.member, strict=True) if member])
    outside = np.mean([count[name] for name, member in zip(units.names, units.member, strict=True) if not member])
    assert abs(inside - outside) < 0.75
    assert min(units.member.sum(), (~units.member).sum()) > 8


def test_coins_of_records_make_records_the_units() -> None:
    membership = split(MAILS, unit="record", seed=0)
    assert user_units(membership) is None
    assert coin_units(membership).kind == "record"
    assert len(record_units(membership).names) == (membership.role == "evaluate").sum()


def test_whole_users_count_with_all_of_their_texts() -> None:
    user = np.array([record.user for record in MAILS], dtype=object)
    inside = np.array([int(name[1:]) % 2 == 0 for name in user])
    membership = Membership(
        record_id=np.array([record.id for record in MAILS], dtype=object), member=inside, user=user,
        user_member=inside, role=np.full(len(MAILS), "evaluate", dtype=object), unit="user", probability=0.5, seed=0,
    )  # fmt: skip
    units = user_units(membership)
    assert units is not None
    assert (units.rows.all(), len(units.names), int(units.member.sum())) == (True, 40, 20)


def test_lists_leave_out_users_on_both_sides() -> None:
    members, held_out = MAILS[:82], MAILS[82:]
    units = user_units(from_files(members, held_out, known_fraction=0.0))
    assert units is not None
    assert "user u20" not in units.names
    assert (len(units.names), int(units.member.sum())) == (39, 20)
