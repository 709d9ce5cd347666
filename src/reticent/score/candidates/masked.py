# SPDX-License-Identifier: Apache-2.0
"""A place in a text and what might stand there, as token ids of the whole text with each candidate in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.record import Record, Span
from reticent.models.encode import encode, leading_tokens

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class MaskedSpan:
    """A masked place and its candidates.

    Args:
        record: the text around the place; what stands in the place itself is never read.
        start, end: the place, characters of ``record.plain``, within one piece of the record.
        candidates: ``C`` different texts that might stand there, none of them empty.

    Raises:
        BadInput: no candidates, empty ones or ones given twice, or a place that is not within one piece.
    """

    record: Record
    start: int
    end: int
    candidates: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.candidates or not all(self.candidates) or len(set(self.candidates)) < len(self.candidates):
            raise BadInput(
                f"candidates for a place in record {self.record.id!r}",
                "are none, empty, or given twice",
                "Give each text that might stand there once.",
            )
        self.filled(self.candidates[0])

    def filled(self, candidate: str) -> Record:
        """The record with the candidate in place, and one span on it."""
        texts, begin, is_filled = [], 0, False
        for _, piece in self.record.pieces:
            first, last = self.start - begin, self.end - begin
            begin += len(piece) + 1
            if 0 <= first < last <= len(piece):
                piece, is_filled = piece[:first] + candidate + piece[last:], True
            texts.append(piece)
        if not is_filled:
            raise BadInput(
                f"record {self.record.id!r}",
                f"has no piece with characters {self.start} to {self.end} in it",
                "A place is not empty, and within the prompt, the completion, or one turn.",
            )
        spans = (Span(start=self.start, end=self.start + len(candidate), kind="CANDIDATE"),)
        return self.record.with_pieces(texts, spans)


@dataclass(frozen=True, kw_only=True, eq=False)
class FilledSpan:
    """The token ids of a blank's text with each candidate in place.

    Args:
        rows: ``C`` arrays of ids, each up to the last token that counts.
        start: first token that counts, in every row: what stands before it is the same in all. At least 1.
        cut: tokens at the front (behind a beginning-of-text token) that were left out for the window.
        first: ``C`` first tokens that count, each of its own row, at ``start`` or behind it; None for ``start`` in
            every row. What does not count is read and not predicted, which costs less.
    """

    rows: tuple[Tokens, ...]
    start: int
    cut: int
    first: tuple[int, ...] | None = None

    @property
    def counted_from(self) -> tuple[int, ...]:
        """``C``: the first token that counts of each row."""
        return (self.start,) * len(self.rows) if self.first is None else self.first

    @property
    def common(self) -> int:
        """How many tokens all rows begin with; at least ``start``."""
        first, last = min(map(tuple, self.rows)), max(map(tuple, self.rows))  # all others lie between them
        return shared(first, last)


def fill(blank: MaskedSpan, tokenizer: Any, *, window: int, follow: int | None = None) -> FilledSpan:
    """Tokenise the whole text once for each candidate and say which tokens count.

    Counted are the tokens with a character of the candidate in them and, behind them, up to ``follow`` tokens. A
    tokenizer may join a candidate's first letters with what stands before: counting begins at the earliest token that
    differs between candidates or touches one, in every row the same.

    Args:
        window: most tokens that the model reads. From a longer text tokens at the front are left out, for all
            candidates the same number.
        follow: tokens behind the candidate that count; None for all.

    Raises:
        BadInput: nothing stands before the place, so that no model says how likely its first token is; the candidate
            and what follows do not fit into the window; as `encode`.
    """
    rows, first = [], []
    for candidate in blank.candidates:
        encoded = encode(blank.filled(candidate), tokenizer, mark_spans=True)
        assert encoded.marked is not None
        touched = np.flatnonzero(encoded.marked)
        if not touched.size:
            raise BadInput(
                f"a candidate for record {blank.record.id!r}", "has no token of its own", "Leave out blank candidates."
            )
        stop = None if follow is None else int(touched[-1]) + 1 + follow
        rows.append(encoded.token_id[:stop])
        first.append(int(touched[0]))
    start = min(min(first), FilledSpan(rows=tuple(rows), start=0, cut=0).common)
    lead = len(leading_tokens(tokenizer)) if blank.record.messages is None else 0
    cut = max(0, max(map(len, rows)) - window)
    if start - cut < max(1, lead):
        raise BadInput(
            f"a place in record {blank.record.id!r}",
            "has no token before it that the model reads",
            "Leave out what stands at the start of a text, and what is as long as the model's window.",
        )
    if cut:
        rows = [np.concatenate([row[:lead], row[lead + cut :]]) for row in rows]
    return FilledSpan(rows=tuple(rows), start=start - cut, cut=cut)


def shared(left: Sequence[int] | Tokens, right: Sequence[int] | Tokens) -> int:
    """How many tokens both begin with."""
    short = min(len(left), len(right))
    apart = np.flatnonzero(np.asarray(left[:short]) != np.asarray(right[:short]))
    return int(apart[0]) if apart.size else short
