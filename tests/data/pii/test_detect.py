# SPDX-License-Identifier: Apache-2.0
"""Overlaps, repeats, pieces of records and the choice of detectors."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.data.pii import DETECTORS, SpanEvidence, choose, detect, find, find_all
from reticent.data.pii.detect import Candidate, repeated, settle

TEXT = "abc def. (ghi) jkl-mno 12 345 678"

candidates = st.lists(
    st.tuples(
        st.integers(0, len(TEXT) - 1), st.integers(1, 12), st.sampled_from("ABC"), st.sampled_from(list(SpanEvidence))
    ).map(lambda t: Candidate(start=t[0], end=min(len(TEXT), t[0] + t[1]), kind=t[2], evidence=t[3])),
    max_size=8,
)


@settings(deadline=None)
@given(candidates, st.randoms())
def test_settled_spans_are_apart_lose_no_letter_and_do_not_depend_on_order(given_, rng):
    spans = settle(TEXT, given_)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    covered = {i for span in spans for i in range(span.start, span.end)}
    wanted = {i for one in given_ for i in range(one.start, one.end)}
    assert covered <= wanted
    assert not any(TEXT[i].isalnum() for i in wanted - covered)
    shuffled = list(given_)
    rng.shuffle(shuffled)
    assert settle(TEXT, shuffled) == spans


def test_better_evidence_names_the_characters_and_the_rest_stays():
    found = settle(
        TEXT,
        [
            Candidate(start=0, end=8, kind="LONG", evidence=SpanEvidence.MODEL),
            Candidate(start=4, end=7, kind="SURE", evidence=SpanEvidence.CHECKED),
        ],
    )
    assert found == (Span(start=0, end=3, kind="LONG"), Span(start=4, end=7, kind="SURE"))


def test_what_is_found_once_is_marked_wherever_it_stands():
    text = "My MRN is 00481516. Patient 00481516 came back; 004815167 is another."
    spans = find(text, choose("document_number"))
    assert [(span.start, span.kind) for span in spans] == [(10, "MEDICAL_RECORD"), (28, "MEDICAL_RECORD")]


def test_a_repeat_at_the_very_end_is_found_beside_longer_values():
    text = "anna@corp.com and Anna, Anna"
    spans = [Span(start=0, end=13, kind="EMAIL"), Span(start=18, end=22, kind="PERSON")]
    [again] = repeated(text, spans)
    assert (again.start, again.end, again.kind) == (24, 28, "PERSON")


def test_context_is_read_across_turns_and_spans_stay_within():
    record = Record(
        id="a",
        messages=(
            Message(role="user", content="What is your passport number?"),
            Message(role="assistant", content="X1234567"),
            Message(role="user", content="call 555"),
            Message(role="assistant", content="0123 4567"),
        ),
    )
    found = detect(record, choose("document_number,phone"))
    assert Span(start=30, end=38, kind="PASSPORT") in found.spans
    borders = [29, 38, 47]
    assert not any(span.start < border < span.end for span in found.spans for border in borders)


def test_spans_that_were_there_stay():
    record = Record(id="a", text="ana@example.org is mine", spans=(Span(start=0, end=3, kind="NICK"),))
    found = detect(record, choose("email"))
    assert found.spans == (Span(start=0, end=3, kind="NICK"), Span(start=4, end=15, kind="EMAIL"))
    assert detect(found, choose("email")) == found


def test_choice_of_detectors():
    assert [found.name for found in choose("email, phone")] == ["email", "phone"]
    assert "presidio" not in {found.name for found in choose()}
    with pytest.raises(BadInput, match="Did you mean 'email'"):
        choose("emial")
    with pytest.raises(BadInput):
        choose(" , ")


def test_a_detector_whose_extra_is_missing_is_skipped_or_refused(monkeypatch):
    broken = dataclasses.replace(DETECTORS.get("names"), missing=lambda: "Install it.")
    monkeypatch.setitem(DETECTORS._things, "names", broken)
    assert "names" not in {found.name for found in choose()}
    with pytest.raises(BadInput, match="Install it"):
        choose("names")


def test_patterns_import_no_torch_and_no_spacy():
    code = (
        "import sys; from reticent.data.pii import choose, find\n"
        "find('ana@example.org', choose('email,phone'))\n"
        "assert not {'torch', 'spacy', 'presidio_analyzer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


needs_pii = pytest.mark.skipif(bool(DETECTORS.get("names").missing()), reason="needs the extra pii")


@needs_pii
def test_names_of_many_texts_are_those_of_each_and_organisations_only_come_when_named():
    texts = [
        "Mary Johnson went to Paris for Microsoft.", "", "See you\tthere, says JOHN SMITH at Goldman Sachs Group.",
        "Have a great weekend. Ask Mary\nJohnson about it, in London.", "x" * 300,
    ]  # fmt: skip
    chosen = choose("names")
    together = list(find_all(texts, chosen))
    assert together == [find(text, chosen) for text in texts]
    kinds = {span.kind for found in together for span in found}
    assert kinds == {"PERSON", "LOCATION"}
    shown = [(text[span.start : span.end]) for text, found in zip(texts, together, strict=True) for span in found]
    assert {"Mary Johnson", "JOHN SMITH", "Paris"} <= set(shown)
    assert "organisations" not in {one.name for one in choose()}
    named = list(find_all(texts, choose("names,organisations")))
    assert "ORGANISATION" in {span.kind for found in named for span in found}


@needs_pii
def test_names_without_the_network(monkeypatch):
    import socket

    def refused(*args, **kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    text = "Mrs. Mary Johnson's brother moved from Paris to work for Microsoft in London. Mail mary@mail.example.org."
    found = [(text[span.start : span.end], span.kind) for span in find(text, choose("names"))]
    assert ("Mary Johnson", "PERSON") in found
    assert {("Paris", "LOCATION"), ("London", "LOCATION")} <= set(found)
    if not DETECTORS.get("presidio").missing():
        assert any(span.kind == "EMAIL" for span in find(text, choose("presidio")))
