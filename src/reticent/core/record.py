# SPDX-License-Identifier: Apache-2.0
"""Record: one piece of private text, in one of the three shapes that people fine-tune on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reticent.core.atomic import replacing
from reticent.core.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Span:
    """A sensitive stretch of ``Record.plain``: characters ``start`` to ``end`` (exclusive), of a ``kind``.

    Examples:
        >>> record = Record(id="a", text="Call Ana today.", spans=(Span(start=5, end=8, kind="PERSON"),))
        >>> [record.plain[span.start : span.end] for span in record.spans]
        ['Ana']
    """

    start: int
    end: int
    kind: str


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a chat. Turns of the role ``assistant`` are trained on, others are context.

    Args:
        role: as chat templates know it.
        content: its text.
        trained: False for a turn of the assistant that is context as well, such as one in a prompt.

    Examples:
        >>> question = Message(role="user", content="Where is it?")
        >>> answer = Message(role="assistant", content="On its way.")
        >>> question.is_learned, answer.is_learned
        (False, True)
    """

    role: str
    content: str
    trained: bool = True

    @property
    def is_learned(self) -> bool:
        """True if it is trained on."""
        return self.role == "assistant" and self.trained

    @property
    def row(self) -> dict[str, Any]:
        """Its fields; ``trained`` only where it says something."""
        row: dict[str, Any] = {"role": self.role, "content": self.content}
        return row if self.trained else row | {"trained": False}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One training or held-out example: ``text``, or ``prompt`` + ``completion``, or ``messages``.

    Args:
        id: unique within a dataset.
        text: plain text; all of it is trained on.
        prompt: context that is not trained on; needs ``completion``.
        completion: what is trained on after ``prompt``.
        messages: a chat; the assistant's turns are trained on.
        user: who the record belongs to; None where no user is known.
        spans: sensitive stretches of ``plain``.

    Raises:
        BadInput: not exactly one of the three shapes.

    Examples:
        >>> Record(id="a", text="Dear shop, my parcel is late.", user="ana").trained_text
        'Dear shop, my parcel is late.'
        >>> Record(id="b", prompt="Where is it?", completion="On its way.").trained_text
        'On its way.'
        >>> Record(id="c", text="both", prompt="and", completion="others")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: record 'c': must have exactly one of text, prompt + completion, or messages. ...
    """

    id: str
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: tuple[Message, ...] | None = None
    user: str | None = None
    spans: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        shapes = [self.text is not None, self.completion is not None, self.messages is not None]
        if sum(shapes) != 1 or (self.prompt is not None) != (self.completion is not None):
            raise BadInput(
                f"record {self.id!r}",
                "must have exactly one of text, prompt + completion, or messages",
                "Name the fields that hold them (--text_field, --prompt_field, --completion_field, --messages_field).",
            )

    @property
    def plain(self) -> str:
        """All of the record as one string, for statistics on text; not what a model is fed."""
        return "\n".join(content for _, content in self.pieces)

    @property
    def trained_text(self) -> str:
        """The part that is trained on, as one string."""
        return "\n".join(content for trained, content in self.pieces if trained)

    @property
    def pieces(self) -> tuple[tuple[bool, str], ...]:
        """``(trained on?, text)`` in reading order."""
        if self.text is not None:
            return ((True, self.text),)
        if self.messages is not None:
            return tuple((message.is_learned, message.content) for message in self.messages)
        return ((False, self.prompt or ""), (True, self.completion or ""))

    def with_pieces(self, texts: Sequence[str], spans: tuple[Span, ...] = ()) -> Record:
        """The same record with other texts in place of its ``pieces``, in their order, and other spans."""
        if self.text is not None:
            (text,) = texts
            return replace(self, text=text, spans=spans)
        if self.messages is not None:
            turns = zip(self.messages, texts, strict=True)
            messages = tuple(replace(turn, content=text) for turn, text in turns)
            return replace(self, messages=messages, spans=spans)
        prompt, completion = texts
        return replace(self, prompt=prompt, completion=completion, spans=spans)

    def trains_on(self, span: Span) -> bool:
        """True if the span lies within one piece that is trained on."""
        begin = 0
        for trained, piece in self.pieces:
            if begin <= span.start and span.end <= begin + len(piece):
                return trained
            begin += len(piece) + 1
        return False

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of the content and its shape, without id, user and spans."""
        shape = [self.text, self.prompt, self.completion, [m.row for m in self.messages or ()]]
        return hashlib.sha256(json.dumps(shape, ensure_ascii=False).encode()).hexdigest()


def fingerprint(records: Iterable[Record]) -> str:
    """SHA-256 (hex) over ids, users and contents in order: two datasets with the same print are the same."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps([record.id, record.user, record.content_hash]).encode())
    return digest.hexdigest()


_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("trained", pa.bool_())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("user", pa.string()),
        pa.field("text", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("completion", pa.string()),
        pa.field("messages", pa.list_(_MESSAGE)),
        pa.field("spans", pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("kind", pa.string())]))),
    ]
)
"""Columns of records in files."""
_ROWS = 2**16
"""Records of which rows are made together."""


def write_records(path: str | Path, records: Sequence[Record]) -> None:
    """Write ``records.parquet``, atomically. It holds private text: keep it where the data may be kept.

    Examples:
        >>> write_records("records.parquet", [Record(id="a", text="hello")])
    """
    with replacing(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for start in range(0, max(1, len(records)), _ROWS):
            rows = [to_row(record) for record in records[start : start + _ROWS]]
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def read_records(path: str | Path) -> list[Record]:
    """Read what ``write_records`` wrote.

    Examples:
        >>> write_records("records.parquet", [Record(id="a", text="hello", user="ana")])
        >>> [record.user for record in read_records("records.parquet")]
        ['ana']
    """
    return [from_row(row) for row in pq.read_table(path, schema=SCHEMA).to_pylist()]


def to_row(record: Record) -> dict[str, Any]:
    """The record as a row of `SCHEMA`."""
    return {
        "id": record.id,
        "user": record.user,
        "text": record.text,
        "prompt": record.prompt,
        "completion": record.completion,
        "messages": None
        if record.messages is None
        else [{"role": turn.role, "content": turn.content, "trained": turn.trained} for turn in record.messages],
        "spans": [{"start": span.start, "end": span.end, "kind": span.kind} for span in record.spans],
    }


def from_row(row: dict[str, Any]) -> Record:
    """The record of a row of `SCHEMA`."""
    messages = row.pop("messages")
    spans = row.pop("spans")
    return Record(
        **row,
        messages=tuple(_message(**m) for m in messages) if messages is not None else None,
        spans=tuple(Span(**s) for s in spans or ()),
    )


def _message(role: str, content: str, trained: bool | None) -> Message:
    return Message(role=role, content=content, trained=trained is not False)
