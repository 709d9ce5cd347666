# SPDX-License-Identifier: Apache-2.0
"""Maps the fields of a row to their roles: as named by the user, or by the usual Hugging Face names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record, Span
from reticent.data.bad_field import BadField as BadField
from reticent.data.bad_field import checked
from reticent.data.chats import conversation, is_turns, messages_in

USUAL_MESSAGES = ("messages", "conversations", "conversation")
USUAL_PAIRS = (
    (("prompt",), ("completion",)),
    (("prompt",), ("response",)),
    (("instruction", "input"), ("output",)),
    (("instruction",), ("output",)),
    (("instruction",), ("response",)),
    (("question",), ("answer",)),
)
USUAL_TEXT = ("text", "content", "body", "document")
USUAL_USER = ("user", "user_id", "author", "sender")
USUAL_SPANS = "spans"


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Names of the fields that make a record; those of ``text``, ``prompt`` and ``completion`` are joined by a line
    break.

    Args:
        text, prompt, completion: joined in this order; empty where the shape is another.
        messages: a list of turns with ``role`` and ``content`` (or other spellings: `data.chats`).
        user: who the record belongs to; None where no field says.
        user_required: whether a row without a user is bad.
        id: unique id; None where it is made of user and text.
        spans: sensitive stretches of ``Record.plain``, ``{"start": 3, "end": 8}`` and if known their ``kind``; where a
            field is named, every row must have it, for a text whose marks got lost would pass for one without secrets.
    """

    text: tuple[str, ...] = ()
    prompt: tuple[str, ...] = ()
    completion: tuple[str, ...] = ()
    messages: str | None = None
    user: str | None = None
    user_required: bool = False
    id: str | None = None
    spans: str | None = None

    def record(self, row: Mapping[str, Any]) -> Record:
        """The record that ``row`` holds; its id is empty where no field is named.

        Raises:
            BadField: a field is missing, empty or of the wrong type.
        """
        id_ = "" if self.id is None else _name(row, self.id)
        user = None
        if self.user is not None and (self.user_required or row.get(self.user) not in (None, "")):
            user = _name(row, self.user)
        if self.messages is not None:
            turns = messages_in(self.messages, _get(row, self.messages))
            record = Record(id=id_, user=user, messages=conversation(self.messages, turns))
        elif self.completion and (turns := self._turns(row)):
            record = Record(id=id_, user=user, messages=turns)
        elif self.completion:
            prompt = _joined(row, self.prompt, may_be_empty=True)
            record = Record(id=id_, user=user, prompt=prompt, completion=_joined(row, self.completion))
        else:
            record = Record(id=id_, user=user, text=_joined(row, self.text))
        return record if self.spans is None else replace(record, spans=_spans(row, self.spans, len(record.plain)))

    def _turns(self, row: Mapping[str, Any]) -> tuple[Message, ...]:
        """The chat that prompt and completion make where both are lists of turns, as TRL has them: only those of the
        completion are trained on. Empty where they are texts."""
        if len(self.prompt) != 1 or len(self.completion) != 1:
            return ()
        (prompt,), (completion,) = self.prompt, self.completion
        asked, answered = _get(row, prompt), _get(row, completion)
        if not isinstance(asked, list) and not isinstance(answered, list):
            return ()
        if not is_turns(asked) or not is_turns(answered):
            raise BadField(
                f"of {prompt!r} and {completion!r} only one is a list of turns", "Give both as turns, or both as text."
            )
        context = messages_in(prompt, asked, trained=False)
        return (*context, *conversation(completion, messages_in(completion, answered)))


def named(
    *,
    text_field: str | None = None,
    prompt_field: str | None = None,
    completion_field: str | None = None,
    messages_field: str | None = None,
    user_field: str | None = None,
    id_field: str | None = None,
    spans_field: str | None = None,
) -> Fields:
    """Fields as the user named them; a comma joins several. No shape is set where none is named.

    Raises:
        BadInput: fields of more than one shape, or a prompt without a completion.
    """
    shapes = [text_field is not None, completion_field is not None, messages_field is not None]
    if sum(shapes) > 1 or (prompt_field is not None) != (completion_field is not None):
        raise BadInput(
            "the named fields",
            "must be one of text, prompt + completion, or messages",
            "Give --text_field, or --prompt_field and --completion_field, or --messages_field.",
        )
    return Fields(
        text=_split(text_field),
        prompt=_split(prompt_field),
        completion=_split(completion_field),
        messages=messages_field,
        user=user_field,
        user_required=user_field is not None,
        id=id_field,
        spans=spans_field,
    )


def complete(fields: Fields, source: str, row: Mapping[str, Any]) -> Fields:
    """Fill in what the user did not name from the usual names that ``row`` has.

    Raises:
        BadInput: none of the usual names, or names of several shapes: then which is meant must be said.
    """
    have = {name for name, value in row.items() if value is not None}
    fields = complete_later(fields, row)
    if fields.text or fields.completion or fields.messages:
        return fields
    shapes: list[Fields] = []
    messages = next((name for name in USUAL_MESSAGES if isinstance(row.get(name), list)), None)
    if messages:
        shapes.append(replace(fields, messages=messages))
    pair = next((pair for pair in USUAL_PAIRS if have.issuperset(pair[0] + pair[1])), None)
    if pair:
        shapes.append(replace(fields, prompt=pair[0], completion=pair[1]))
    text = next((name for name in USUAL_TEXT if name in have), None)
    if text:
        shapes.append(replace(fields, text=(text,)))
    if len(shapes) == 1:
        return shapes[0]
    names = ", ".join(repr(name) for name in row) or "none"
    reason = "has fields of several shapes, and which is meant is unclear" if shapes else "has none of the usual fields"
    near = _near("text", row)
    fix = f"Name what holds the text: --text_field{f' {near}' if near else ''}, or --prompt_field and "
    raise BadInput(source, f"{reason}; its fields are {names}", f"{fix}--completion_field, or --messages_field.")


def complete_later(fields: Fields, row: Mapping[str, Any]) -> Fields:
    """Fill in what a row may lack and a later one have: the user, and spans.

    Nothing is lost on the rows before: none of the usual names of users had a value there, and no spans.
    """
    if fields.user is None:
        user = next((name for name in USUAL_USER if row.get(name) not in (None, "")), None)
        fields = fields if user is None else replace(fields, user=user)
    if fields.spans is None and row.get(USUAL_SPANS) and look_like_spans(row[USUAL_SPANS]):
        fields = replace(fields, spans=USUAL_SPANS)
    return fields


def _split(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip()) if names else ()


def _get(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        near = _near(name, row)
        hint = f"Did you mean {near!r}? " if near else ""
        raise BadField(f"has no field {name!r}", f"{hint}Its fields are {', '.join(map(repr, row)) or 'none'}.")
    return row[name]


def _near(name: str, row: Mapping[str, Any]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(row), n=1)), None)


def _joined(row: Mapping[str, Any], names: Sequence[str], *, may_be_empty: bool = False) -> str:
    """The fields, joined by line breaks; of several, empty ones are left out."""
    values = [(name, _get(row, name)) for name in names]
    if len(values) > 1:
        values = [(name, value) for name, value in values if value not in (None, "")]
    text = "\n".join(checked(name, value) for name, value in values)
    if not text.strip() and not may_be_empty:
        raise BadField(f"{' and '.join(map(repr, names))} is empty", "Skip such rows (--on_bad_row skip).")
    return text


def _name(row: Mapping[str, Any], field: str) -> str:
    value = _get(row, field)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        what = "empty" if value is None or value == "" else f"a {type(value).__name__}"
        raise BadField(f"field {field!r} is {what}", "Give a name or a whole number, or skip such rows.")
    return checked(field, str(value))


def look_like_spans(value: Any) -> bool:
    """True if ``value`` is a list, perhaps empty, of what has a start and an end."""
    return isinstance(value, list) and all(
        isinstance(item, Mapping) and {"start", "end"} <= set(item) for item in value
    )


def _spans(row: Mapping[str, Any], field: str, length: int) -> tuple[Span, ...]:
    values = _get(row, field)
    if not look_like_spans(values):
        raise BadField(
            f"field {field!r} is no list of spans",
            'Give [{"start": 3, "end": 8}, …], and [] where nothing is sensitive.',
        )
    spans = []
    for item in values:
        start, end = item["start"], item["end"]
        whole = all(isinstance(place, int) and not isinstance(place, bool) for place in (start, end))
        if not (whole and 0 <= start < end <= length):
            raise BadField(
                f"field {field!r} has a span that is no stretch of its text, which has {length} characters",
                "Count characters from 0, the end not included; several fields or turns are joined by a line break.",
            )
        spans.append(Span(start=start, end=end, kind=str(item.get("kind") or "")))
    return tuple(spans)
