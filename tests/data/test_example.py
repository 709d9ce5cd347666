# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.core.record import Record, fingerprint
from reticent.data.dedup import near_duplicates
from reticent.data.example import KINDS, help_desk


@pytest.fixture(scope="module")
def mails() -> list[Record]:
    return help_desk(users=120, mails_per_user=10, seed=0)


def marked(mail: Record) -> list[tuple[str, str]]:
    return [(span.kind, mail.plain[span.start : span.end]) for span in mail.spans]


def test_the_same_in_another_process() -> None:
    code = "from reticent.core.record import fingerprint as f; from reticent.data.example import help_desk as h"
    command = [sys.executable, "-c", f"{code}; print(f(h(users=5, mails_per_user=3, seed=4)))"]
    other = subprocess.run(
        command, env=os.environ | {"PYTHONHASHSEED": "77"}, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == fingerprint(help_desk(users=5, mails_per_user=3, seed=4))


def test_more_users_and_mails_leave_the_others_as_they_are() -> None:
    few = {mail.id: mail for mail in help_desk(users=4, mails_per_user=2)}
    many = {mail.id: mail for mail in help_desk(users=7, mails_per_user=5)}
    assert all(many[id_] == mail for id_, mail in few.items())
    assert help_desk(users=4, mails_per_user=2, seed=1) != list(few.values())


def test_length_and_leftovers_of_the_grammar(mails: list[Record]) -> None:
    words = [len(mail.plain.split()) for mail in mails]
    assert 30 <= np.median(words) <= 50
    assert np.quantile(words, 0.01) > 18
    assert max(words) < 90
    assert not any(re.search(r"[\[\]{}|]| [.,?]|  |\n\n", mail.plain) for mail in mails)


def test_spans_mark_what_they_say(mails: list[Record]) -> None:
    shape = {
        "EMAIL": r"[\w.'-]+@example\.(com|org|net)",
        "PHONE": r"07700 900\d{3}|\(\d{3}\) 555-01\d\d",
        "ORDER": r"BW-\d{6}",
        "IBAN": r"[A-Z]{2}\d{2}\w+",
        "CARD": r"4\d{12,18}",
        "ACCESS_CODE": r"\d{4}",
        "MONEY": r"[£$]\d+",
        "DATE_OF_BIRTH": r".*\b(19[3-9]|200)\d",
        "ADDRESS": r".*\d.*",
        "PERSON": r"[^\d\n]+",
        "HEALTH": r"[\w' -]+",
    }
    seen: Counter[str] = Counter()
    for mail in mails:
        for kind, text in marked(mail):
            assert re.fullmatch(shape[kind], text), (kind, text)
            seen[kind] += 1
    assert set(seen) == set(KINDS.values())
    assert min(seen.values()) >= 10


def test_no_order_number_or_address_is_left_unmarked(mails: list[Record]) -> None:
    for mail in mails:
        found = re.findall(r"BW-\d{6}|\S+@example\.\w+", mail.plain)
        assert Counter(found) == Counter(text for kind, text in marked(mail) if kind in ("ORDER", "EMAIL"))


def test_a_user_keeps_their_data(mails: list[Record]) -> None:
    values: dict[tuple[str | None, str], set[str]] = defaultdict(set)
    for mail in mails:
        for kind, text in marked(mail):
            values[mail.user, kind].add(text)
    for kind in ("EMAIL", "PHONE", "ADDRESS", "IBAN", "CARD", "DATE_OF_BIRTH", "MONEY"):
        of_kind = [texts for (_, name), texts in values.items() if name == kind]
        assert all(len(texts) == 1 for texts in of_kind), kind
        if kind != "PHONE":  # numbers set aside for fiction are few
            assert len(set.union(*of_kind)) >= 0.95 * len(of_kind), kind


def test_few_near_duplicates(mails: list[Record]) -> None:
    texts = [mail.plain for mail in mails]
    assert near_duplicates(texts[::2], texts[1::2]).mean() < 0.02


def test_refused() -> None:
    with pytest.raises(BadInput):
        help_desk(users=0)
