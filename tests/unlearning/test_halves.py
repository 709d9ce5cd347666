# SPDX-License-Identifier: Apache-2.0
"""Halves: whole users on one side, about even, and by the hash alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.unlearning.halves import MIN_HALF, MIN_TO_HALVE, halves


def rows(n, users, start=0):
    return [
        Record(id=str(start + k), text="x", user=None if users is None else f"u{(start + k) % users}") for k in range(n)
    ]


@given(
    st.lists(st.integers(0, 30), min_size=0, max_size=120),
    st.lists(st.integers(0, 40), min_size=0, max_size=120),
    st.integers(0, 2**32 - 1),
)
def test_no_user_is_on_both_sides(forgotten, unseen, seed):
    forget = [Record(id=f"f{n}", text="x", user=f"u{user}") for n, user in enumerate(forgotten)]
    others = [Record(id=f"o{n}", text="x", user=f"u{user}") for n, user in enumerate(unseen)]
    sides = halves(forget, others, seed=seed)
    part = {}
    for record, side in zip([*forget, *others], [*sides.forget, *sides.unseen], strict=True):
        assert part.setdefault(record.user, side) == side
    if sides.steers:
        assert len(forget) >= MIN_TO_HALVE
        largest = max(forgotten.count(user) for user in set(forgotten))
        assert abs(sides.forget.count("steer") - sides.forget.count("judge")) <= largest
        for parts in (sides.forget, sides.unseen):
            assert min(parts.count("steer"), parts.count("judge")) >= MIN_HALF
    else:
        assert set(sides.forget) | set(sides.unseen) <= {"judge"}
        assert sides.reason
    assert sides == halves(forget, others, seed=seed)


def test_rows_without_users_go_alone():
    sides = halves(rows(60, None), rows(160, None, 60))
    assert sides.forget.count("steer") == 30
    assert sides.unseen.count("steer") == 80


@pytest.mark.parametrize(
    ("forget", "unseen", "reason"),
    [
        (rows(39, None), rows(99, None, 50), "only 39 rows are forgotten"),
        ([], rows(99, None), "only 0 rows"),
        (rows(80, 1), rows(80, None, 80), "the smaller half would have 0 forgotten rows"),
        (rows(80, 8), rows(80, 1, 80), "the smaller half would have 0 never-trained rows"),
        (rows(80, 8), [], "0 never-trained rows"),
        (rows(80, 8), rows(19, None, 80), "9 never-trained rows"),
    ],
)
def test_too_few_to_tell(forget, unseen, reason):
    sides = halves(forget, unseen)
    assert reason in sides.reason
    assert not sides.steers
    assert (len(sides.forget), len(sides.unseen)) == (len(forget), len(unseen))


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    forget, unseen = rows(120, 24), rows(120, 24, 120)
    sides = halves(forget, unseen, seed=1)
    turned = halves(forget[::-1], unseen[::-1], seed=1)
    assert turned.forget == sides.forget[::-1]
    assert turned.unseen == sides.unseen[::-1]
    assert len({halves(forget, unseen, seed=seed).forget for seed in range(8)}) == 8


def test_each_side_is_as_likely():
    forget = rows(80, 16)
    steering = [halves(forget, rows(80, None, 80), seed=seed).forget[0] == "steer" for seed in range(400)]
    assert 160 < sum(steering) < 240


def test_a_user_called_like_a_record():
    mails = [Record(id="1", text="x", user=None), Record(id="2", text="x", user="1"), *rows(78, None, 3)]
    assert len(halves(mails, rows(80, None, 100)).forget) == 80


def test_seeds_are_checked():
    with pytest.raises(BadInput):
        halves([], [], seed=-1)


def test_rows_set_aside_are_on_no_side():
    forget, unseen = rows(80, 16), rows(80, 16, 80)
    aside = {str(n) for n in range(0, 80, 4)}
    sides = halves(forget, unseen, aside=aside)
    assert {record.id for record, part in zip(forget, sides.forget, strict=True) if part == "aside"} == aside
    assert sides.forget.count("steer") == sides.forget.count("judge") == 30
    few = halves(forget, unseen, aside={str(n) for n in range(50)})
    assert few.reason.startswith("of 80 forgotten rows 30 can be compared")
    assert (few.forget.count("aside"), few.forget.count("judge")) == (50, 30)
    alone = halves(rows(39, None), unseen, aside={"1"})
    assert set(alone.forget) == {"judge"}
