# SPDX-License-Identifier: Apache-2.0
"""Numbers and addresses as people paste them: found whole, exactly where they stand, and nothing else is."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.record import Record, Span
from reticent.data.pii import Scrubber, choose, detect, find, find_all
from reticent.data.pii.detect import candidates_in
from reticent.data.pii.reading import Reading, Readings
from reticent.data.pii.workers import Workers, enough
from reticent.testing.written_numbers import SEPARATORS, WrittenNumber, written_addresses, written_numbers

PATTERNS = [found for found in choose() if found.evidence]
NAMED = "card_number,us_ssn,iban,phone,email,ip_address,national_id,mac_address,document_number,assigned_secret"
CASES = [
    ("Card:\u00a04111\u00a01111\u00a01111\u00a01111, please refund it.", [("CARD", 6, 25)]),
    ("My number is (212)\u00a0555\u20110123, call after six.", [("PHONE", 13, 27)]),
    ("SSN: 219\u201109\u20119999 as you asked.", [("US_SSN", 5, 16)]),
    ("IBAN DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000 for the refund.", [("IBAN", 5, 32)]),
    ("\u6211\u7684\u5361\u53f74111111111111111\u8bf7\u9000\u6b3e", [("CARD", 4, 20)]),
    ("\u7535\u8bdd+8613800138000\u8bf7\u8054\u7cfb", [("PHONE", 2, 16)]),
    ("\u8054\u7cfbalice@example.com\u6216bob@example.org\u3002", [("EMAIL", 2, 19), ("EMAIL", 20, 35)]),
    ("\u8d26\u53f7DE89370400440532013000\u8c22\u8c22", [("IBAN", 2, 24)]),
    ("\u5730\u5740198.51.100.7\u7684\u4e3b\u673a", [("IP_ADDRESS", 2, 14)]),
    ("Write to vera@xn--80ak6aa92e.com today.", [("EMAIL", 9, 32)]),
    ("Write to vera@xn--e1afmkfd.xn--p1ai today.", [("EMAIL", 9, 35)]),
    ("namespace dead:: and ad:: here", []),
    ("mod dead::beef, ab::cd, and section 1.1.1.1 of it", []),
    ("at fe80::1 and 2001:db8::7", [("IP_ADDRESS", 3, 10), ("IP_ADDRESS", 15, 26)]),
    ("host A099::09C0:876A:130B up", [("IP_ADDRESS", 5, 25)]),
    ("id 987-65-4321", []),
    ("my phone number is +351 912 345 678", [("PHONE", 19, 35)]),
    ("at 1548138160707 and Invoice 100234567 paid and 12345-6789", []),
    ("Fake card number 4111 1111 1111 1111.com that runs on", [("CARD", 17, 36)]),
    ("reach us at 1-713-555-0123.", [("PHONE", 12, 26)]),
    ("fax 1 713 555-0123 today", [("PHONE", 4, 18)]),
    ("ring (713)555-0123", [("PHONE", 5, 18)]),
    ("Ana 713-555-0123 (5) and Bo 713-555-0124 (12)", [("PHONE", 4, 16), ("PHONE", 28, 40)]),
    ("713-555-0123 713-555-0124", [("PHONE", 0, 12), ("PHONE", 13, 25)]),
    ("713-555-0123\n713-555-0124", [("PHONE", 0, 12), ("PHONE", 13, 25)]),
    ("my extension is 3-9853 now", [("PHONE", 16, 22)]),
    ("Turkey 05557\n975 97 287-Office", [("PHONE", 13, 23)]),
    ("4111.1111.1111.1111 it is", [("CARD", 0, 19)]),
    ("file_4111111111111111_old", [("CARD", 5, 21)]),
    ("_ana@example.org_ said", [("EMAIL", 1, 16)]),
    ("mail ana@\nexample.org soon", [("EMAIL", 5, 21)]),
    ("\u5199\u4fe1\u5230bob@\u4f8b\u5b50.\u4e2d\u56fd\u8c22\u8c22", [("EMAIL", 3, 12)]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "spans"), CASES)
def test_what_people_sent(text: str, spans: list[tuple[str, int, int]]) -> None:
    assert [(span.kind, span.start, span.end) for span in find(text, choose(NAMED))] == spans


@pytest.mark.parametrize("make", [written_numbers, written_addresses])
def test_values_as_they_are_pasted_are_found_whole(make: object) -> None:
    """At least 95 % of each kind exactly, and at least 95 % of what is found is right."""
    rows: list[WrittenNumber] = make(900, seed=7)  # type: ignore[operator]
    wanted, exact, given_, right = Counter(), Counter(), Counter(), Counter()
    for row, found in zip(rows, find_all([row.text for row in rows], PATTERNS), strict=True):
        wanted[row.span.kind] += 1
        exact[row.span.kind] += row.span in found
        for span in found:
            given_[span.kind] += 1
            right[span.kind] += span == row.span
    assert all(exact[kind] >= 0.95 * wanted[kind] for kind in wanted), exact
    assert all(right[kind] >= 0.95 * given_[kind] for kind in given_), (right, given_)


def test_every_separator_and_kind_comes_up() -> None:
    rows = written_numbers(900, seed=7)
    assert set(SEPARATORS) < {row.separator for row in rows}
    assert len({row.span.kind for row in rows}) == 6
    assert rows == written_numbers(900, seed=7) != written_numbers(900, seed=8)


@pytest.mark.parametrize("style", ["surrogate", "placeholder", "mask"])
def test_nothing_of_a_pasted_number_is_left_in_clear(style: str) -> None:
    scrubber = Scrubber(style=style, key=b"k" * 32)
    for row in written_numbers(120, seed=3):
        scrubbed = scrubber.scrub(detect(Record(id="a", text=row.text), PATTERNS))
        value = row.text[row.span.start : row.span.end]
        assert value not in scrubbed.plain
        behind = row.text[row.span.end :]
        assert scrubbed.plain.endswith(behind)
        assert scrubbed.plain.startswith(row.text[: row.span.start])


def test_figures_in_columns_are_no_cards_and_no_telephones() -> None:
    rows = ([str(1000 + 37 * row * column % 9000) for column in range(1, 9)] for row in range(1, 200))
    table = "\n".join(map("\t".join, rows))
    found = find(table, choose("card_number,phone,us_ssn,national_id"))
    assert len(found) <= 2, [table[span.start : span.end] for span in found]


ODD = st.text(alphabet="ab19 .-_@\t\n\u00a0\u2009\u200b\u00ad\u2011\u2013\uff11\u5361\u0661&;nbsp#8201", max_size=40)


@given(ODD, st.data())
def test_the_way_back_is_that_of_a_table_of_places(text: str, data: st.DataObject) -> None:
    """Every reading against an obvious twin: each of its characters knows the characters that it was made from."""
    readings = Readings(text)
    for reading in (readings.even, readings.numbers, readings.joined):
        if reading is None or not reading.text:
            continue
        places = _places(reading)
        assert len(places) == len(reading.text)
        start = data.draw(st.integers(0, len(places) - 1))
        end = data.draw(st.integers(start + 1, len(places)))
        assert reading.back(start, end) == (places[start][0], places[end - 1][1])


def _places(reading: Reading) -> list[tuple[int, int]]:
    before = [(at, at + 1) for at in range(len(reading.text))] if reading.source is None else _places(reading.source)
    if not reading.edits:
        return before
    places: list[tuple[int, int]] = []
    done = 0
    for start, end, first, last in reading.edits:
        places += before[done:first]
        places += [(before[first][0], before[last - 1][1])] * (end - start)
        done = last
    return [*places, *before[done:]]


def test_plain_text_is_read_as_it_is() -> None:
    readings = Readings("Call (212) 555-0123 at 9.30, Ana!\n")
    assert readings.even is readings.numbers is readings.raw
    assert readings.joined is None


def test_processes_find_what_one_finds_and_survive_the_end_of_another() -> None:
    texts = [row.text for row in written_numbers(300, seed=5)]
    chosen = choose("phone,email,us_ssn")
    alone = list(find_all(texts, chosen))
    told: list[int] = []
    assert list(find_all(texts, chosen, processes=2, advance=told.append)) == alone
    assert sum(told) == len(texts)
    batches = [texts[:64], texts[64:128], texts[128:]]
    with Workers(chosen, processes=2) as workers:
        for one in workers._started:
            one.kill()
            one.wait()
        assert list(workers.map(candidates_in, batches)) == [candidates_in(batch, chosen) for batch in batches]


def test_processes_are_started_for_models_and_long_data_only() -> None:
    assert enough([10**9], choose("email,phone")) == 1
    names = [one for one in choose() if not one.evidence]
    assert enough([100] * 10, names) == 1


def test_a_lone_surrogate_in_a_text_harms_nobody() -> None:
    assert find("\ud800 ana@example.org", choose("email")) == (Span(start=2, end=17, kind="EMAIL"),)
