# SPDX-License-Identifier: Apache-2.0
"""The words: closed, no stronger than "not detected by these attacks", and led by the retrained models."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import reticent
from reticent.core.section import Section
from reticent.core.unlearning import Measurement, UnlearningCheck, UnlearningModel, UnlearningVerdict
from reticent.core.unlearning_words import (
    AMONG_RETRAINED,
    HEADLINES,
    LIKE_UNSEEN,
    MARKED,
    NOT_CLAIMED,
    STATUSES,
    STILL_KNOWN,
    STRONGEST,
    TOO_FEW,
    WORDS,
)
from reticent.unlearning.verification.check import checks
from reticent.unlearning.verification.verdict import LEADING, verdict_of

SOURCE = Path(reticent.__file__).parent
STRONGER = re.compile(
    r"\b(forgot|erased|deleted|removed|gone|safe|proven?|guarantees? that|certifie[sd] that)\b", re.IGNORECASE
)


def outcome(name, word="", knew=None, ran=True):
    return UnlearningCheck(
        name=name,
        word=word,
        sentence=f"{name} says {word}." if ran else "",
        ran=ran,
        why_not="" if ran else "nobody asked",
        knew=knew,
        section=Section(name=name.replace("_", "-"), title=name),
    )


@pytest.mark.parametrize(
    ("membership", "among", "extraction", "status"),
    [
        ((LIKE_UNSEEN, True), (AMONG_RETRAINED, True), "", "not_detected"),
        ((LIKE_UNSEEN, True), None, "", "not_detected"),
        ((TOO_FEW, True), (AMONG_RETRAINED, True), "", "not_detected"),
        ((LIKE_UNSEEN, True), (TOO_FEW, False), "", "not_detected"),
        ((TOO_FEW, True), None, "", "too_few"),
        ((TOO_FEW, True), (TOO_FEW, False), "", "too_few"),
        ((TOO_FEW, False), None, "", "too_few"),
        ((LIKE_UNSEEN, False), None, "", "never_known"),
        ((LIKE_UNSEEN, False), (AMONG_RETRAINED, False), "", "never_known"),
        ((LIKE_UNSEEN, True), (STILL_KNOWN, True), "", "still_known"),
        ((LIKE_UNSEEN, True), (MARKED, True), "", "marked"),
        ((MARKED, True), (AMONG_RETRAINED, True), "", "marked"),
        ((MARKED, True), (STILL_KNOWN, True), "", "still_known"),
        ((LIKE_UNSEEN, True), (AMONG_RETRAINED, True), STILL_KNOWN, "still_known"),
        ((LIKE_UNSEEN, True), (AMONG_RETRAINED, True), MARKED, "marked"),
        ((LIKE_UNSEEN, False), None, STILL_KNOWN, "still_known"),
    ],
)
def test_status(membership, among, extraction, status):
    found = [outcome("membership", *membership), outcome("extraction", extraction)]
    found.insert(1, outcome("among_retrained", ran=False) if among is None else outcome("among_retrained", *among))
    verdict = verdict_of(found)
    assert verdict.status == status
    assert verdict.headline == HEADLINES[status]
    first = "among_retrained" if among else "membership"
    assert verdict.sentences[0].startswith(first)
    assert any("Not held against retrained models" in line for line in verdict.sentences) == (among is None)


def test_nothing_ran():
    assert verdict_of([outcome("membership", ran=False)]).status == "too_few"


def test_words_are_closed():
    section = Section(name="a", title="a")
    with pytest.raises(ValueError, match="is not one of"):
        UnlearningCheck(name="a", word="forgotten", section=section)
    with pytest.raises(ValueError, match="is not one of"):
        UnlearningVerdict(status="clean", headline="")
    with pytest.raises(ValueError, match="is not one of"):
        UnlearningModel(name="a", role="other", fingerprint="")
    with pytest.raises(ValueError, match="says why"):
        UnlearningCheck(name="a", ran=False, section=section)
    with pytest.raises(ValueError, match="is not one of"):
        Measurement(check="a", model="a", role="after", what="", metric="", estimate=None, word="fine")  # type: ignore[arg-type]


def test_no_phrase_is_stronger_than_not_detected():
    assert STRONGEST == "Not detected by these attacks."
    for text in (*WORDS, *HEADLINES.values()):
        assert not STRONGER.search(text), text
    assert set(STATUSES) == set(HEADLINES)
    assert len(NOT_CLAIMED) >= 5
    places = [*(SOURCE / "unlearning" / "verification").glob("*.py"), *(SOURCE / "report").glob("*unlearning*.py")]
    spoken = [(place.name, text) for place in places for text in strings(place.read_text(encoding="utf-8"))]
    for name in ("unlearning.html", "certificate.html"):
        page = (SOURCE / "report" / "templates" / name).read_text(encoding="utf-8")
        spoken += [(name, text) for text in re.findall(r">[^<{]+<", page)]
    assert len(spoken) > 500
    assert not [entry for entry in spoken if STRONGER.search(entry[1])]


def strings(text):
    """Literals that people may read: all but docstrings."""
    tree = ast.parse(text)
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def test_a_further_check_is_a_file():
    assert [check.name for check in checks()] == [
        "membership", "among_retrained", "extraction", "robustness", "collateral", "inside",
    ]  # fmt: skip
    loop = (SOURCE / "unlearning" / "verification" / "look_into.py").read_text(encoding="utf-8")
    assert not [check.name for check in checks() if f'"{check.name}"' in loop]
    assert set(LEADING) <= {check.name for check in checks()}
