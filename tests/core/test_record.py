# SPDX-License-Identifier: Apache-2.0
"""Records: three shapes, one Parquet file, fingerprints that see every change."""

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.core.membership import Membership, read_membership
from reticent.core.record import Message, Record, Span, fingerprint, read_records, write_records

RECORDS = [
    Record(id="a", text="héllo", user="u", spans=(Span(start=0, end=5, kind="PERSON"),)),
    Record(id="b", prompt="q", completion="a"),
    Record(id="c", messages=(Message(role="user", content="hi"), Message(role="assistant", content="ho")), user="v"),
    Record(id="d", text=""),
]


def test_round_trip(tmp_path):
    write_records(tmp_path / "r.parquet", RECORDS)
    assert read_records(tmp_path / "r.parquet") == RECORDS


def test_what_is_trained_on():
    assert [r.trained_text for r in RECORDS] == ["héllo", "a", "ho", ""]
    assert [r.plain for r in RECORDS] == ["héllo", "q\na", "hi\nho", ""]


@pytest.mark.parametrize("fields", [{}, {"text": "x", "completion": "y"}, {"prompt": "x"}, {"completion": "x"}])
def test_other_shapes_are_refused(fields):
    with pytest.raises(BadInput, match="exactly one"):
        Record(id="x", **fields)


def test_fingerprint_sees_text_user_and_order():
    prints = {
        fingerprint(RECORDS),
        fingerprint(RECORDS[::-1]),
        fingerprint(RECORDS[:-1]),
        fingerprint([Record(id="a", text="héllo", user="w"), *RECORDS[1:]]),
        fingerprint([Record(id="a", text="hello", user="u"), *RECORDS[1:]]),
    }
    assert len(prints) == 5
    assert fingerprint(RECORDS) == fingerprint(list(RECORDS))


def test_membership_round_trip(tmp_path):
    membership = Membership(
        record_id=np.array(["a", "b"], object),
        member=np.array([True, False]),
        user=np.array(["u", None], object),
        user_member=np.array([True, False]),
        role=np.array(["evaluate", "known"], object),
        unit="user",
        probability=0.5,
        seed=3,
    )
    membership.write(tmp_path / "m.parquet")
    back = read_membership(tmp_path / "m.parquet")
    for name in ("record_id", "member", "user", "user_member", "role"):
        np.testing.assert_array_equal(getattr(back, name), getattr(membership, name))
    assert (back.unit, back.probability, back.seed) == ("user", 0.5, 3)
    assert back.has_users


@pytest.mark.parametrize(
    "record",
    [
        Record(id="1", text="one", user="u"),
        Record(id="1", prompt="one", completion="two"),
        Record(id="1", messages=(Message(role="user", content="one"), Message(role="assistant", content="two"))),
    ],
)
def test_other_texts_in_the_place_of_pieces(record):
    texts = [text for _, text in record.pieces]
    spans = (Span(start=0, end=1, kind="X"),)
    assert record.with_pieces(texts) == record
    other = record.with_pieces([text.upper() for text in texts], spans)
    assert other.plain == record.plain.upper()
    assert [trained for trained, _ in other.pieces] == [trained for trained, _ in record.pieces]
    assert (other.id, other.user, other.spans) == (record.id, record.user, spans)
    with pytest.raises(ValueError, match=r"unpack|longer"):
        record.with_pieces([*texts, "more"])
