# SPDX-License-Identifier: Apache-2.0
"""Regular expressions of one's own are detectors like any other."""

from __future__ import annotations

import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Span
from reticent.data.pii import choose, find
from reticent.data.pii.patterns import pattern_detectors


def test_what_matches_is_marked_and_goes_first():
    text = "order 4111 1111 1111 1111, BW-123456 and BW-1"
    own = pattern_detectors({"ORDER": r"BW-[0-9]{6}", "TICKET": r"order ([0-9 ]+[0-9])"})
    assert find(text, own) == (Span(start=6, end=25, kind="TICKET"), Span(start=27, end=36, kind="ORDER"))
    assert find(text, [*choose("card_number"), *own])[0].kind == "TICKET"
    assert pattern_detectors({}) == []


def test_a_group_that_took_no_part_marks_nothing():
    assert find("ab", pattern_detectors({"X": r"a(c)?b"})) == ()


@pytest.mark.parametrize(
    ("kind", "expression", "why"),
    [
        ("order", "BW", "no name in capitals"),
        ("", "BW", "no name in capitals"),
        ("ORDER", "BW-[", "no regular expression"),
        ("ORDER", "[0-9]*", "the empty text"),
        ("ORDER", "", "the empty text"),
    ],
)
def test_what_is_no_pattern_is_refused(kind, expression, why):
    with pytest.raises(BadInput, match=why):
        pattern_detectors({kind: expression})
