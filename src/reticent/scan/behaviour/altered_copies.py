# SPDX-License-Identifier: Apache-2.0
"""Altered copies of a text: the same sentences with other names, numbers, dates and addresses, which nobody can have
trained a model on.

A value gets the same replacement wherever it stands in a copy. Replacements are to be as likely as what they replace,
since a model that knows the kind of text would hold unlikely ones against the copies:

- names: Faker's, word for word, as `reticent.data.pii.scrub` has them; the words of an e-mail address follow them, its
  domain stays;
- numbers and codes: place by place from the values of the same kind and shape in the data, so that what all of them
  share (an area code, a century) stays, and no value as a whole need have been seen;
- dates: another day, month and a year nearby, in the same layout;
- addresses, places, organisations: parts of several values of the data, where it has enough of them;
- a planted canary: another draw of its kind, which makes it and its copies exchangeable to the last bit.

What holds no such thing (a condition, a profession) stays as it is. A copy of a copy is drawn like another copy of the
text, as a draw depends on what it replaces by its kind and shape alone.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from reticent.core import validate
from reticent.core.record import Record, Span
from reticent.data.canaries.canary_file import Canary
from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import CANARIES
from reticent.data.pii.detect import borders, find_all
from reticent.data.pii.detector import Detector
from reticent.data.pii.detectors.date_of_birth import DATE
from reticent.data.pii.scrub import SCRUBBED, Scrubber, originals
from reticent.data.pii.surrogate import SURROGATES, Draw, same_shape

DATES = frozenset({"DATE", "DATE_OF_BIRTH"})
WORDED = frozenset({"ADDRESS", "LOCATION", "ORGANISATION"})
ENOUGH = 5
"""Values of a kind and shape from which its places can be drawn; with fewer, digits and letters are uniform."""
SHORTEST_NUMBER = 3
"""Digits: shorter numbers are counts, days and hours, of which there are few others."""
_DIGITS = re.compile(r"[0-9][0-9.,:/-]*[0-9]")
_WORD = re.compile(r"[^\W\d_]+")
_FIGURES = re.compile(r"[0-9]+")
_PART = re.compile(r"[0-9]+|[^\W\d_]+")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip
_CANARY = re.compile(r"canary/([a-z_]+)/")


def marked(records: Sequence[Record], detectors: Sequence[Detector] | None = None) -> list[Record]:
    """The records with spans on what can be altered: those that they come with, those that the detectors give where
    there are none, dates with a year, and numbers of at least three digits.

    Args:
        records: with or without spans.
        detectors: as in `reticent.data.pii.detect.find_all`.
    """
    bare = [record for record in records if not record.spans]
    detected = dict(
        zip((record.id for record in bare), find_all([record.plain for record in bare], detectors), strict=True)
    )
    return [_with_numbers(record, record.spans or detected[record.id]) for record in records]


def _with_numbers(record: Record, spans: Sequence[Span]) -> Record:
    plain, taken = record.plain, list(spans)
    edges = list(borders(record))
    for kind, pattern in (("DATE", DATE), ("NUMBER", _DIGITS)):
        for match in pattern.finditer(plain):
            start, end = match.span()
            if sum(map(str.isdigit, match[0])) < SHORTEST_NUMBER or (kind == "DATE" and match[0].isdigit()):
                continue
            apart = all(end <= span.start or span.end <= start for span in taken)
            if apart and any(first <= start and end <= last for first, last in edges):
                taken.append(Span(start=start, end=end, kind=kind))
    return replace(record, spans=tuple(sorted(taken, key=lambda span: (span.start, -span.end))))


@dataclass(frozen=True, kw_only=True, eq=False)
class CopyMaker:
    """Makes altered copies of the records of one data set. `of` makes one for a data set.

    Args:
        scrubbers: of names, one a copy.
        keys: of all other draws, one a copy.
        values: kind → distinct values of the data, sorted.
        shapes: ``(kind, shape)`` → the same, of values of that shape.
        source: of canaries.
    """

    scrubbers: tuple[Scrubber, ...]
    keys: tuple[bytes, ...]
    values: dict[str, tuple[str, ...]]
    shapes: dict[tuple[str, str], tuple[str, ...]]
    source: CanarySource
    _drawn: dict[tuple[str, str], list[Record]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, records: Sequence[Record], *, copies: int, secret: str, vocabulary: Sequence[str] = ()) -> CopyMaker:
        """A maker for marked records.

        Args:
            records: `marked`, of the whole data set, controls included.
            copies: of each text.
            secret: the draws follow from it. It has to be something that whoever made the model could not know before
                the model was made, such as the fingerprint of its weights: copies that can be foreseen can be trained
                on.
            vocabulary: see `CanarySource`.
        """
        validate.positive(copies=copies)
        keys = tuple(
            hashlib.blake2b(f"altered copy {n}/{secret}".encode(), digest_size=32).digest() for n in range(copies)
        )
        avoid = originals(records)
        values: defaultdict[str, set[str]] = defaultdict(set)
        for record in records:
            plain = record.plain
            for span in record.spans:
                values[span.kind].add(plain[span.start : span.end])
        shapes: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for kind, members in values.items():
            for value in sorted(members):
                shapes[kind, shape_of(value)].append(value)
        return cls(
            scrubbers=tuple(Scrubber(style="surrogate", key=key, avoid=avoid) for key in keys),
            keys=keys,
            values={kind: tuple(sorted(members)) for kind, members in values.items()},
            shapes={name: tuple(members) for name, members in shapes.items()},
            source=CanarySource(records=records, vocabulary=vocabulary),
        )

    def copies(self, record: Record) -> list[Record]:
        """Altered copies of a marked record, with its id."""
        name = (record.id, record.plain)
        if name not in self._drawn:
            kind = _CANARY.match(record.id)
            if kind and kind[1] in CANARIES:
                self._drawn[name] = [self._drawn_anew(record, kind[1], key) for key in self.keys]
            else:
                self._drawn[name] = [self._altered(record, number) for number in range(len(self.keys))]
        return self._drawn[name]

    def alters(self, record: Record) -> bool:
        """Does every copy differ from the record?"""
        return all(copy.plain != record.plain for copy in self.copies(record))

    def _altered(self, record: Record, number: int) -> Record:
        text, texts = record.plain, []
        spans = [span for span in record.spans if span.kind != SCRUBBED]
        for start, end in borders(record):
            done, new = start, ""
            for span in spans:
                first, last = max(span.start, done), min(span.end, end)
                if first < last and span.start >= start:
                    new += text[done:first] + self._replacement(text[first:last], span.kind, number)
                    done = last
            texts.append(new + text[done:end])
        return record.with_pieces(texts)

    def _replacement(self, value: str, kind: str, number: int) -> str:
        draw = Draw(self.keys[number], f"{kind} {value.casefold()}")
        names = self.scrubbers[number]
        if kind == "PERSON":
            return names.replacement(value, kind)
        if kind == "EMAIL" and "@" in value:
            local, _, domain = value.rpartition("@")
            return f"{self._reshaped(_WORD.sub(lambda word: _name(word[0], names), local), 'LOCAL', draw)}@{domain}"
        if kind in DATES:
            return draw.unused(value, lambda: _PART.sub(lambda part: _date_part(part[0], draw), value))
        if kind in WORDED:
            return self._recombined(value, kind, draw, names)
        if kind in SURROGATES or _DIGITS.search(value):
            return draw.unused(value, lambda: self._reshaped(value, kind, draw, letters=kind in SURROGATES))
        return value

    def _reshaped(self, value: str, kind: str, draw: Draw, *, letters: bool = False) -> str:
        """The value with its digits (and letters) drawn place by place from values of the same shape."""
        donors = self.shapes.get((kind, shape_of(value)), ())
        if len(donors) >= ENOUGH:
            changed = "".join(draw.choice(donors)[place] for place in range(len(value)))
        else:
            changed = same_shape(value, draw)
            if value[:1] in set("123456789"):
                changed = str(1 + draw.below(9)) + changed[1:]
        pairs = zip(value, changed, strict=True)
        return "".join(new if old.isdigit() or (letters and old.isalpha()) else old for old, new in pairs)

    def _recombined(self, value: str, kind: str, draw: Draw, names: Scrubber) -> str:
        """Each part between commas from another value with as many parts, and other numbers in it."""
        parts = value.split(", ")
        donors = [split for other in self.values.get(kind, ()) if len(split := other.split(", ")) == len(parts)]
        if len(donors) < ENOUGH:
            return names.replacement(value, kind)

        def make() -> str:
            chosen = ", ".join(draw.choice(donors)[place] for place in range(len(parts)))
            return _FIGURES.sub(lambda figures: same_length_number(figures[0], draw), chosen)

        return draw.unused(value, make)

    def _drawn_anew(self, record: Record, kind: str, key: bytes) -> Record:
        """Another canary of the kind, in the shape of the record."""
        rng = random.Random(hashlib.blake2b(record.id.encode(), key=key).digest())  # noqa: S311 - follows from a secret
        drawn: CanaryText = CANARIES.get(kind).draw(rng, self.source)
        shape = "text" if record.text is not None else "chat" if record.messages is not None else "pair"
        start = len(drawn.before)
        canary = Canary(
            id=record.id,
            kind=kind,
            repetitions=0,
            planted=False,
            text=drawn.text,
            space=1,
            probability=0.0,
            start=start,
            end=start + len(drawn.secret),
            shape=shape,
        )
        return replace(canary.record, user=record.user)


def shape_of(value: str) -> str:
    """The value with each digit as 0, each letter as a or A.

    >>> shape_of("GB82-west 7")
    'AA00-aaaa 0'
    """
    return "".join(
        "0" if char.isdigit() else ("A" if char.isupper() else "a") if char.isalpha() else char for char in value
    )


def same_length_number(figures: str, draw: Draw) -> str:
    """Another number of as many digits, without a zero in front unless there was one."""
    changed = draw.digits(len(figures))
    return changed if figures[0] == "0" else str(1 + draw.below(9)) + changed[1:]


def _name(word: str, names: Scrubber) -> str:
    return names.replacement(word, "PERSON").lower() if len(word) > 1 else word


def _date_part(part: str, draw: Draw) -> str:
    if part.isdigit():
        if len(part) == 8:
            return f"{_near(part[:4], draw)}{1 + draw.below(12):02d}{1 + draw.below(12):02d}"
        if len(part) == 4:
            return _near(part, draw)
        return str(1 + draw.below(12)).zfill(len(part))
    if part.lower() in ("st", "nd", "rd", "th", "of"):
        return part if part.lower() == "of" else "th"
    month = draw.choice(_MONTHS)
    month = month if len(part) > 4 else month[:3]
    return month.lower() if part.islower() else month


def _near(year: str, draw: Draw) -> str:
    return str(int(year) - 6 + draw.below(13)).zfill(4)
