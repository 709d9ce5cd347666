# SPDX-License-Identifier: Apache-2.0
"""Made-up people are the same in every run, and their texts mark what is theirs."""

from __future__ import annotations

import pytest

from reticent.core.errors import BadInput
from reticent.data.identities import identities, identity_records


def test_people_are_reproducible_and_different():
    people = identities(60, seed=3)
    assert people[:20] == identities(20, seed=3) != identities(20, seed=4)
    for kind in ("PERSON", "EMAIL", "PHONE"):
        assert len({person.values[kind] for person in people}) == 60
    assert all("@example." in person.values["EMAIL"] and "555-01" in person.values["PHONE"] for person in people)


def test_texts_mark_what_is_theirs():
    (person,) = identities(1)
    records = identity_records(person)
    assert len(records) == 5
    for record in records:
        assert record.user == person.id
        assert record.spans[0].kind == "PERSON"
        assert all(record.plain[span.start : span.end] == person.values[span.kind] for span in record.spans)
    assert identity_records(person, texts=2) == records[:2]
    with pytest.raises(BadInput):
        identity_records(person, texts=6)
