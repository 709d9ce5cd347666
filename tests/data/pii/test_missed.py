# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.record import Record, Span
from reticent.data.example import help_desk
from reticent.data.pii import Scrubber, choose, detect, find
from reticent.data.pii.detect import detect_beside
from reticent.data.pii.missed import others, targets, unscrubbed
from reticent.data.pii.workers import Workers

KEY = b"k" * 32


def test_others_are_those_that_did_not_scrub() -> None:
    ran = choose("email,phone")
    names = {one.name for one in others(ran)}
    assert names.isdisjoint({"email", "phone"})
    assert {"iban", "card_number"} <= names
    assert "organisations" not in names


@pytest.mark.parametrize("style", ["surrogate", "placeholder", "mask"])
def test_known_marks_and_what_others_find_agree(style: str) -> None:
    """Without telephones among the detectors, the marked telephones are missed, and the detector of telephones finds
    them; both give the same places in what was scrubbed, and there the values stand."""
    phones = 0
    for mail in help_desk(users=30, mails_per_user=2):
        found = detect(Record(id=mail.id, text=mail.text), choose("email,iban,card_number"))
        scrubbed = Scrubber(style=style, key=KEY).scrub(found)
        marks = [span for span in mail.spans if span.kind == "PHONE"]
        known = unscrubbed(marks, found, scrubbed)
        assert [scrubbed.plain[s.start : s.end] for s in known] == [mail.plain[s.start : s.end] for s in marks]
        second = unscrubbed(find(found.plain, choose("phone")), found, scrubbed)
        assert set(known) <= set(second)
        phones += len(known)
    assert phones > 5


STRETCHES = st.lists(st.tuples(st.integers(0, 29), st.integers(1, 8)), max_size=4)


@given(st.integers(1, 30), STRETCHES, STRETCHES)
def test_what_is_left_of_marks_is_what_they_have_and_the_scrubber_has_not(
    length: int, marks: list[tuple[int, int]], hits: list[tuple[int, int]]
) -> None:
    """A text in which no letter is twice: every undetected run of three or more letters of a mark stands where it is
    said to stand in the scrubbed text, and nothing else is said."""
    text = "".join(chr(0x4E00 + i) for i in range(length))
    ends, apart = 0, []
    for start, n in sorted(hits):
        if ends <= start < length:
            ends = min(start + n, length)
            apart.append(Span(start=start, end=ends, kind="D"))
    found = Record(id="a", text=text, spans=tuple(apart))
    scrubbed = Scrubber(style="placeholder").scrub(found)
    free = "".join(" " if any(s.start <= i < s.end for s in apart) else char for i, char in enumerate(text))
    for start, n in marks:
        mark = Span(start=start, end=min(start + n, length), kind="M")
        if mark.start < mark.end:
            rest = unscrubbed([mark], found, scrubbed)
            said = [scrubbed.plain[one.start : one.end] for one in rest]
            assert said == [run for run in free[mark.start : mark.end].split() if len(run) >= 3]
            assert {one.kind for one in rest} <= {"M"}


def test_nothing_that_was_replaced_is_missed() -> None:
    record = detect(Record(id="a", text="mail ana@corp.com and bo@corp.com"), choose("email"))
    scrubbed = Scrubber(style="surrogate", key=KEY).scrub(record)
    assert unscrubbed(find(record.plain, choose("email")), record, scrubbed) == ()
    assert unscrubbed([], record, scrubbed) == ()


@pytest.mark.parametrize("processes", [1, 2])
def test_others_look_beside_the_detectors_as_each_would_alone(processes: int) -> None:
    """What scrubs is not moved by who else looks, and who else looks is not moved by what scrubs, overlaps included:
    a card's detector beside one of telephones, and the other way round."""
    mails = help_desk(users=70, mails_per_user=1)
    texts = [Record(id=mail.id, text=mail.text) for mail in mails]
    for own, beside in (("email,phone", "card_number,iban"), ("card_number,iban", "phone")):
        with Workers(choose(f"{own},{beside}"), processes=processes) as workers:
            seen_by_all = list(detect_beside(texts, workers, choose(beside)))
        for record, (found, seen) in zip(texts, seen_by_all, strict=True):
            assert found == detect(record, choose(own))
            assert seen == find(record.plain, choose(beside))


def test_overlapping_finds_are_one_target() -> None:
    record = Record(id="a", text="Zed Quill of Ulm")
    spans = [
        Span(start=0, end=9, kind="PERSON"),
        Span(start=4, end=16, kind="ADDRESS"),
        Span(start=13, end=16, kind="P"),
    ]
    found = targets(record, spans)
    assert [(one.id, one.secret, one.kind) for one in found] == [
        ("missed/a/0", "Zed Quill", "PERSON"),
        ("missed/a/1", "Ulm", "P"),
    ]
