# SPDX-License-Identifier: Apache-2.0
"""Ids for records that come without: made of user and text, so that no record's id depends on another record.

Coins are thrown for ids. Were rows numbered, a row that goes would rename all rows behind it, and their coins would be
thrown anew: one record would decide what everybody else's model is trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter

from reticent.core.record import Record

DIGITS = 16
"""Hexadecimal: 64 bits. Among ten million records two share them with a chance of about 3e-6."""


class Naming:
    """Names records one after another. Only exact repeats within one user depend on their order, and those are equal.

    Args:
        prefix: what every id begins with.
        hide_spans: what marked spans hold does not enter the id. Then equal texts around different spans are told
            apart by their order: fit for a promise about what spans hold, whose neighbours have the same records.

    >>> name = Naming("r")
    >>> [name(Record(id="", text=text, user=user)) for text, user in (("x", "ana"), ("x", "bo"), ("x", "ana"))]
    ['rf10fe25423bc5eb3', 'r1de11efd53d1e758', 'rf10fe25423bc5eb3-2']
    """

    def __init__(self, prefix: str, *, hide_spans: bool = False) -> None:
        self.prefix, self.hide_spans = prefix, hide_spans
        self._seen: Counter[str] = Counter()

    def __call__(self, record: Record) -> str:
        """The id of the next record."""
        name = digest(record, hide_spans=self.hide_spans)
        self._seen[name] += 1
        again = self._seen[name]
        return f"{self.prefix}{name}" + (f"-{again}" if again > 1 else "")


def digest(record: Record, *, hide_spans: bool = False) -> str:
    """A hash of user and content (without what spans hold), in hexadecimal.

    It has no key: who can guess a text and its user can confirm the guess. So an id is as private as its text.
    """
    what = _outside(record) if hide_spans and record.spans else record.content_hash
    return hashlib.blake2b(json.dumps([record.user, what]).encode(), digest_size=DIGITS // 2).hexdigest()


def is_digest(record: Record) -> bool:
    """True if the record's id was made of its text."""
    return any(digest(record, hide_spans=hidden) in record.id for hidden in (False, True))


def tells_of_spans(record: Record) -> bool:
    """True if the record's id was made of what its spans hold. Then so was its coin, which a model shows."""
    return bool(record.spans) and digest(record) in record.id


def _outside(record: Record) -> list[str]:
    """The stretches of the text that no span touches."""
    plain, done, outside = record.plain, 0, []
    for span in sorted(record.spans, key=lambda span: (span.start, span.end)):
        if span.start > done:
            outside.append(plain[done : span.start])
        done = max(done, span.end)
    return [*outside, plain[done:]]
