# SPDX-License-Identifier: Apache-2.0
"""Passwords and keys without a mark of their own: what is assigned to a name that says "password" or "key"."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from reticent.core.record import Span
from reticent.data.pii.detector import SpanEvidence, detector

MIN_ENTROPY = 3.0
"""Bits a character that a key has at least: words and placeholders have less, random letters and digits more."""

_NAME = re.compile(
    r"(passw(?:or)?d|passphrase|passcode|pwd|kennwort|(?:api|access|account|auth|private|secret|encryption|signing|shared"
    r"[ _-]?access)[ _-]?key|(?:auth|access|bearer|refresh|session|id)[ _-]?token|client[ _-]?secret|token|secret)"
    r"(?:[_-]\w{1,20})?[\"'`]?"
    r"(?P<operator>\s{0,3}(?:=>|:=|==?|:)\s{0,3}|\s(?:is|was|to)\s(?:now\s)?:?)"
    r"(?P<quote>[\"'`]?)(?P<value>[^\s\"'`;,&<>]{4,200}+)",
    re.IGNORECASE,
)


@detector(
    "assigned_secret",
    kinds=("PASSWORD", "API_KEY"),
    evidence=SpanEvidence.CONTEXT,
    reads="even",
    example=("the password is hunter2!", "hunter2!"),
)
def assigned_secret(text: str) -> Iterator[Span]:
    """Values after ``password =``, ``api_key:``, "the password is"; only those that are no common word."""
    for match in _NAME.finditer(text):
        value = match["value"].rstrip(".,:)]}") if not match["quote"] else match["value"]
        password = match[1].lower().startswith(("pass", "pwd", "kenn"))
        sure = bool(match["quote"]) or "=" in match["operator"]
        if _password(value, sure) if password else _key(value):
            start = match.start("value")
            yield Span(start=start, end=start + len(value), kind="PASSWORD" if password else "API_KEY")


def entropy(value: str) -> float:
    """Shannon entropy of the characters, bits each."""
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)


def _password(value: str, sure: bool) -> bool:
    """Not ``None``, ``${PASSWORD}``, ``os.environ[...]`` or, in prose, an ordinary word."""
    if len(value) < 4 or value[0] in "$<{[(*" or value.lower() in ("none", "null", "true", "false", "required"):
        return False
    mixed = any(char.isdigit() for char in value) or any(not char.isalnum() for char in value)
    return "(" not in value and (sure or mixed)


def _key(value: str) -> bool:
    plain = len(value) >= 16 and value[0] not in "$<{[(" and "(" not in value
    return plain and any(char.isdigit() for char in value) and entropy(value) >= MIN_ENTROPY
