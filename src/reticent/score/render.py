# SPDX-License-Identifier: Apache-2.0
"""From records and a variant to the texts that the models read."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.record import Record
from reticent.models.encode import EncodedRecord, encode
from reticent.score.candidates.propose import PendingQuestion, Proposer, Question
from reticent.score.requests import RenderContext, Variant, rendered, rng_for

Array = npt.NDArray[Any]

_SHARD_TOKENS = 65_536
"""Tokens in a shard: what is lost when a run is killed, about half a minute of a small model on a laptop."""
_BLOCK = 256
"""Renderings that are made, and proposed for, at a time."""
_AHEAD = 64
"""Blocks whose proposals are asked for together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedRecords:
    """All records under one variant, as the models read them.

    Args:
        rows: ``N·copies`` texts, the copies of a record next to each other.
        about: the columns of ``schema.RECORD_COLUMNS`` for them.
    """

    rows: list[EncodedRecord]
    about: dict[str, Array]

    def shards(self) -> list[slice]:
        """Rows that are scored and written together; at least one shard, empty if there are no rows."""
        ends, tokens = [], 0
        for i, row in enumerate(self.rows):
            tokens += len(row)
            if tokens >= _SHARD_TOKENS:
                ends.append(i + 1)
                tokens = 0
        if not ends or ends[-1] < len(self.rows):
            ends.append(len(self.rows))
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def part(self, rows: slice) -> RenderedRecords:
        """Some of the rows."""
        return RenderedRecords(rows=self.rows[rows], about={name: column[rows] for name, column in self.about.items()})


def render(
    records: Sequence[Record],
    variant: Variant,
    *,
    tokenizer: Any,
    max_tokens: int | None,
    known_members: Sequence[Record] = (),
    known_held_out: Sequence[Record] = (),
    proposer: Proposer | None = None,
) -> RenderedRecords:
    """Render and encode all records.

    ``max_tokens`` is counted on the record as it is. A rendering of a record that is cut off keeps as many trained
    tokens as the record does, and one of a record that is not is not cut off either: what a rendering puts in front
    must not push out what is scored.

    Raises:
        BadInput: a rendering is refused, or a record cannot be encoded.
    """
    rows: list[EncodedRecord] = []
    sizes: list[tuple[int, int]] = []
    for record, copies in _copies(records, variant, (known_members, known_held_out), proposer):
        plain = encode(record, tokenizer, max_tokens=max_tokens)
        for copy in copies:
            rows.append(plain if variant.render is None else _cut(encode(copy, tokenizer), plain))
            text = _scored_text(copy, rows[-1], tokenizer).encode("utf-8", "surrogatepass")
            sizes.append((len(text), len(zlib.compress(text))))
    size = np.array(sizes, dtype=np.int32).reshape(-1, 2)
    about = {
        "record_id": np.repeat(np.array([record.id for record in records], dtype=object), variant.copies),
        "copy": np.tile(np.arange(variant.copies, dtype=np.int32), len(records)),
        "text_bytes": size[:, 0].copy(),
        "zlib_bytes": size[:, 1].copy(),
    }
    return RenderedRecords(rows=rows, about=about)


def _scored_text(record: Record, row: EncodedRecord, tokenizer: Any) -> str:
    """The trained text as far as it is scored: what a cut text weighs must not count what was cut off."""
    if not row.truncated:
        return record.trained_text
    return str(tokenizer.decode(row.token_id[row.trained]))


def _cut(row: EncodedRecord, plain: EncodedRecord) -> EncodedRecord:
    """``row`` up to as many trained tokens as ``plain`` kept, if ``plain`` is cut off."""
    predicted = int(plain.trained.sum())
    if not plain.truncated or row.trained.sum() <= predicted:
        return row
    end = int(np.flatnonzero(row.trained)[predicted])
    return replace(row, token_id=row.token_id[:end], trained=row.trained[:end], truncated=True)


def _copies(
    records: Sequence[Record],
    variant: Variant,
    known_records: tuple[Sequence[Record], Sequence[Record]],
    proposer: Proposer | None,
) -> Iterator[tuple[Record, list[Record]]]:
    """Each record with its copies. A rendering that asks for proposals is repeated once a block of them is computed."""

    def attempt(record: Record) -> list[Record] | PendingQuestion:
        context = RenderContext(
            rng=rng_for(record, variant.name),
            known_members=known_records[0],
            known_held_out=known_records[1],
            propose=proposer.propose if proposer is not None else None,
        )
        try:
            return rendered(record, variant, context)
        except PendingQuestion as open_question:
            return open_question

    def asked(block: Sequence[Record]) -> list[Question]:
        return [result.question for result in map(attempt, block) if isinstance(result, PendingQuestion)]

    size = max(1, _BLOCK // variant.copies)
    answered = 0
    for start in range(0, len(records), size):
        block = records[start : start + size]
        questions: list[Question] = []
        while opened := asked(block):
            assert proposer is not None
            if start >= answered:  # several at once, so that workers can share them
                answered = start + _AHEAD * size
                later = (asked(records[begin : begin + size]) for begin in range(start + size, answered, size))
                proposer.keep([opened, *filter(None, later)])
            questions += opened
            proposer.answer(questions)
        for record in block:
            copies = attempt(record)
            assert not isinstance(copies, PendingQuestion)
            yield record, copies
