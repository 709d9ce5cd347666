# SPDX-License-Identifier: Apache-2.0
"""Records by length and digest, against token ids compared one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.privacy.rows import RowDigests, digest_of, rows_of

IDS = st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=12)


@given(rows=IDS, others=IDS)
@settings(deadline=None)
def test_copies_and_shared_rows_are_those_of_the_token_ids(rows, others):
    """The obvious twin holds all token ids."""
    found = rows_of(rows)
    assert found.copies() == [i for i, row in enumerate(rows) if row in rows[:i]]
    assert found.shared(rows_of(others)) == [i for i, row in enumerate(rows) if row in others]
    assert found.length.tolist() == list(map(len, rows))
    assert found.longest == max(map(len, rows), default=None)


def test_a_digest_is_of_the_numbers_and_not_of_how_they_are_held():
    for kind in (np.int16, np.int32, np.int64, np.uint32):
        assert digest_of(np.array([5, 0, 7], dtype=kind)) == digest_of([5, 0, 7])
    assert digest_of([5, 0]) != digest_of([5])
    assert digest_of([1, 2]) != digest_of([2, 1])
    assert digest_of(np.array([1, 2, 3, 4])[::2]) == digest_of([1, 3])


def test_digests_that_end_in_zeros_are_told_apart():
    made = [bytes(16), bytes(15) + b"\1", b"\1" + bytes(15), b"\1" + bytes(14) + b"\1"]
    assert RowDigests.from_digests([1] * 4, made).copies() == []
    assert RowDigests.from_digests([1] * 5, [*made, made[2]]).copies() == [4]


def test_records_are_read_once_and_one_at_a_time():
    held = []

    def one_by_one():
        for number in range(50):
            held.append(number)
            yield np.array([number, number])

    found = rows_of(one_by_one())
    assert held == list(range(50))
    assert rows_of(found) is found
    assert found.digest.nbytes == 50 * 16
