# SPDX-License-Identifier: Apache-2.0
"""Take marked stretches out of records: masked, named by their kind, or replaced by consistent made-up values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.record import Record, Span
from reticent.data.pii.detect import borders
from reticent.data.pii.surrogate import KEY_BYTES, SHORTEST, SURROGATES, Draw, letters_and_digits, same_shape
from reticent.data.pii.surrogates.person import KEPT, WORD

STYLES = ("surrogate", "placeholder", "mask")
MASK = "***"
"""Stands for any value of any length."""
PSEUDONYM_DIGITS = 12
SCRUBBED = "SCRUBBED"
"""The kind of a span in prepared data on what was put in place of personal data: nobody's, so no audit is after it."""


def originals(records: Iterable[Record]) -> frozenset[str]:
    """Letters and digits, folded, of every marked value and of every word of a name: no surrogate may hold one."""
    forms = set()
    for record in records:
        text = record.plain
        for span in record.spans:
            value = text[span.start : span.end]
            forms.add(letters_and_digits(value))
            if span.kind == "PERSON":
                forms |= {letters_and_digits(word) for word in WORD.findall(value) if word.casefold() not in KEPT}
    return frozenset(value for value in forms if len(value) >= SHORTEST)


@dataclass(frozen=True, kw_only=True)
class Scrubber:
    """Replaces what spans mark. Users, ids and everything outside of spans stay as they are.

    Args:
        style: ``"surrogate"``, a made-up value of the same kind and form, the same for the same value wherever it
            stands; ``"placeholder"``, its kind in brackets; ``"mask"``, three asterisks.
        key: 32 secret bytes that surrogates follow from. Who has it can test guesses of an original, and who has not
            cannot; with the same key and the same ``avoid`` the same values get the same surrogates in another run.
        avoid: what no surrogate may hold, `originals` of the whole data set: then a surrogate is nobody else's name.
    """

    style: str
    key: bytes = b""
    avoid: frozenset[str] = frozenset()
    _made: dict[tuple[str, str], str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        validate.one_of(STYLES, style=self.style)
        if self.style == "surrogate" and not KEY_BYTES <= len(self.key) <= 64:
            raise BadInput(
                f"a key of {len(self.key)} bytes", "is no key for surrogates", "Give 32 to 64 bytes from `secrets`."
            )

    def __repr__(self) -> str:  # the key must not get into a log
        return f"Scrubber(style={self.style!r})"

    def scrub(self, record: Record) -> Record:
        """The record with every marked stretch replaced, and spans where the replacements are.

        Spans that overlap are one stretch of the first one's kind; one that runs over the border of two pieces is cut.

        Raises:
            BadInput: a span outside of the text.
        """
        text = record.plain
        if any(not 0 <= span.start < span.end <= len(text) for span in record.spans):
            raise BadInput(f"record {record.id!r}", "has a span outside of its text", "Detect or mark again.")
        texts, spans, written = [], [], 0
        for start, end in borders(record):
            done, new = start, ""
            for first, last, kind in _stretches(record.spans, start, end):
                new += text[done:first]
                put = self.replacement(text[first:last], kind)
                spans.append(Span(start=written + len(new), end=written + len(new) + len(put), kind=kind))
                new += put
                done = last
            texts.append(new + text[done:end])
            written += len(texts[-1]) + 1
        return record.with_pieces(texts, tuple(spans))

    def replacement(self, value: str, kind: str) -> str:
        """The text that stands for a value of that kind; never empty."""
        if self.style == "mask":
            return MASK
        if self.style == "placeholder":
            return f"[{kind or 'PRIVATE'}]"
        maker = SURROGATES.get(kind) if kind in SURROGATES else None
        canonical = maker.canonical(value) if maker else value
        if (kind, value) not in self._made:
            draw = Draw(self.key, f"{kind} {canonical}", self.avoid)
            make = maker.make if maker else same_shape
            self._made[kind, value] = draw.unused(value, lambda: make(value, draw)) or f"[{kind or 'PRIVATE'}]"
        return self._made[kind, value]

    def pseudonym(self, name: str) -> str:
        """A name for a user whose own name is personal: the same for the same user, in every style.

        Examples:
            >>> Scrubber(style="mask", key=b"k" * 32).pseudonym("ana@example.org")
            'user-902607353827'
        """
        return f"user-{Draw(self.key, f'user {name}').digits(PSEUDONYM_DIGITS)}"


def _stretches(spans: Iterable[Span], start: int, end: int) -> list[tuple[int, int, str]]:
    """Marked parts of ``start:end``, rising and apart."""
    stretches: list[tuple[int, int, str]] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end, span.kind)):
        first, last = max(span.start, start), min(span.end, end)
        if first >= last:
            continue
        if stretches and first < stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(last, stretches[-1][1]), stretches[-1][2])
        else:
            stretches.append((first, last, span.kind))
    return stretches
