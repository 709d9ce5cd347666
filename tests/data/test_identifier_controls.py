# SPDX-License-Identifier: Apache-2.0
"""Controls of identifiers: the issuer's part stays, check digits are right, and the real value is one of many."""

import numpy as np
import pytest
from stdnum import luhn
from stdnum.es import dni

from reticent.data.identifier_controls import CHOSEN, HASHES, controls, form_of
from reticent.data.pii.detect import choose, find
from reticent.data.pii.detector import SpanEvidence
from reticent.data.pii.detectors.iban import remainder
from reticent.data.pii.patterns import pattern_detectors

KEY = b"k" * 32
DETECTORS = [*(one for one in choose() if one.evidence is not SpanEvidence.MODEL), *pattern_detectors(HASHES)]

VALUES = {
    "PHONE": "+44 20 7946 0958",
    "CARD": "4539 1488 0343 6467",
    "IBAN": "GB82 WEST 1234 5698 7654 32",
    "US_SSN": "536-22-8145",
    "MAC_ADDRESS": "00:1B:44:11:3A:B7",
    "API_KEY": "AKIAIOSFODNN7EXAMPLE",
    "CRYPTO_WALLET": "0x52908400098527886e0f7030069857d2e4169ee7",
    "HASH": "9f86d081884c7d659a2feaa0c55ad015",
    "NATIONAL_ID": "12345678Z",
    "PASSPORT": "533380006",
}


def drawn(kind, value, count=99):
    return controls(kind, value, count=count, key=KEY, detectors=DETECTORS)


@pytest.mark.parametrize("kind", VALUES)
def test_controls_have_the_form_of_the_value(kind):
    value = VALUES[kind]
    made = drawn(kind, value)
    form = form_of(kind, value)
    assert len(set(made) | {value}) == 100
    fixed = [place for place in range(len(value)) if place not in form.free]
    for control in made:
        assert len(control) == len(value)
        for mine, theirs in zip(control, value, strict=True):
            assert (mine.isdigit(), mine.isupper(), mine.islower()) == (
                theirs.isdigit(),
                theirs.isupper(),
                theirs.islower(),
            )
        if kind not in ("CARD", "IBAN"):  # check digits stand among the fixed characters there
            assert all(control[place] == value[place] for place in fixed)
    assert made == drawn(kind, value)  # the same in every run


def test_check_digits_are_right():
    assert all(luhn.is_valid("".join(filter(str.isdigit, one))) for one in drawn("CARD", VALUES["CARD"]))
    assert all(one.startswith("4539 1488") for one in drawn("CARD", VALUES["CARD"]))
    accounts = drawn("IBAN", VALUES["IBAN"])
    assert all(remainder(one.replace(" ", "")) == 1 and one[5:9] == "WEST" for one in accounts)
    assert all(dni.is_valid(one) for one in drawn("NATIONAL_ID", VALUES["NATIONAL_ID"]))


def test_detectors_take_controls_for_what_they_take_the_value_for():
    for kind in ("CARD", "IBAN", "API_KEY", "HASH", "MAC_ADDRESS"):
        for control in drawn(kind, VALUES[kind], count=20):
            assert [span.kind for span in find(control, DETECTORS)] == [kind]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((kind, "ana.lee@example.org 1234567890") for kind in sorted(CHOSEN)),
        ("PHONE", "911"),
        ("PHONE", "5551"),
        ("CARD", "4539"),
        ("IBAN", "GB82"),
        ("US_SSN", "12"),
        ("HASH", "abc123"),
        ("API_KEY", "short"),
        ("DATE", "2018-04-12"),
        ("ZIP", "90210-1234"),
        ("ORDER", "1029384756"),
        ("CRYPTO_WALLET", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
        ("CRYPTO_WALLET", "0x52908400098527886E0F7030069857D2e4169eE7"),
        ("PHONE", "٠١٢٣٤٥٦٧٨٩"),
        ("HASH", ""),
    ],
)
def test_what_people_choose_or_hardly_varies_gets_no_control(kind, value):
    assert form_of(kind, value) is None
    assert drawn(kind, value) == ()


def test_digests_and_random_uuids_are_found_and_other_figures_are_not():
    def kinds(text):
        return [span.kind for span in find(text, pattern_detectors(HASHES))]

    assert kinds("commit 5a3f9c0d7be1428899aa") == ["HASH"]
    assert kinds("id 3f2b8c1e-9d4a-4f6b-8a7c-0e1d2c3b4a59.") == ["HASH"]
    assert kinds("id 3f2b8c1e-9d4a-1f6b-8a7c-0e1d2c3b4a59.") == []  # version 1 holds a clock and an address
    assert kinds("12345678901234567890 deadbeefdeadbeef fedcba") == []


def test_the_real_value_has_any_place_among_its_controls():
    """Values of an issuer that draws its digits: the order of the real one among controls is uniform."""
    rng = np.random.default_rng(0)
    places = []
    for _ in range(300):
        value = f"(212) 555-{rng.integers(10_000):04d}"
        made = drawn("PHONE", value, count=9)
        places.append(sorted([value, *made]).index(value))
    counts = np.bincount(places, minlength=10)
    assert ((counts - 30) ** 2 / 30).sum() < 27.9  # chi-square with 9 degrees of freedom, 0.1 %


def test_without_enough_values_there_are_none(monkeypatch):
    monkeypatch.setattr("reticent.data.identifier_controls.TRIES", 1)
    assert drawn("NATIONAL_ID", VALUES["NATIONAL_ID"]) == ()
