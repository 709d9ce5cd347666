# SPDX-License-Identifier: Apache-2.0
"""A chat as its template renders it: which characters are the assistant's, and which end an answer.

A template is a program, so what it does with a turn is found out by trying: the chat is rendered a second time with
words that stand in for what was said. Only if those words, replaced by what was said, give the very same text as the
chat itself are the places known; a mask that is off by a few tokens would make every figure silently wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from transformers.utils.chat_template_utils import render_jinja_template

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.models.spans import Stretch
from reticent.models.turn_ends import where_answers_end, without_end

Mask = npt.NDArray[np.bool_]
_TAG = re.compile(r"(</?[A-Za-z][\w:.-]*>|<\|[^|<>\n]+\|>|\[/?[A-Z_]+\]|◁/?\w+▷)")
"""Marks by which templates find the reasoning in an answer, to move or drop it."""
_GENERATION = re.compile(r"\{%[-+]?\s*generation\b")
"""Begins what a template itself calls the assistant's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chat:
    """A rendered chat.

    Args:
        text: what the model reads.
        said: of each character, whether the assistant says it.
        closed: the same with what ends an answer.
        unended: nothing stands behind the last answer, which ends the text, so the end-of-text token has to end it.
    """

    text: str
    said: Mask
    closed: Mask
    unended: bool = False


class _Part(NamedTuple):
    """A stretch of a turn, letter for letter: first character in its content, in the rendered chat, and length."""

    turn: int
    said: int
    read: int
    length: int

    @property
    def end(self) -> int:
        return self.read + self.length


class _Unit(NamedTuple):
    """The text that a stand-in stands for."""

    turn: int
    said: int
    text: str


def read_chat(record: Record, messages: tuple[Message, ...], tokenizer: Any) -> Chat:
    """Render a chat and find the answers in it.

    A template that names the assistant's part itself (``{% generation %}``) is taken at its word.

    Raises:
        BadInput: no chat template, one that refuses the chat, or one that rewrites answers so that they are not found.
    """
    text = render(record, messages, tokenizer)
    turns = [number for number, message in enumerate(messages) if message.role == "assistant"]
    nothing = np.zeros(len(text), dtype=np.bool_)
    if not turns:
        return Chat(text=text, said=nothing, closed=nothing)
    spans_of_template = _named_by_template(messages, text, tokenizer)
    parts = _locate(record, messages, turns, text, tokenizer)
    if parts is not None:
        answers = [(mine[0].read, mine[-1].end) for turn in turns if (mine := [p for p in parts if p.turn == turn])]
    elif spans_of_template is not None:
        answers = [(start, start + len(without_end(text[start:end], tokenizer))) for start, end in spans_of_template]
    else:
        raise BadInput(
            f"record {record.id!r}",
            "has turns that the chat template rewrites, so what is trained on cannot be marked exactly",
            "Leave out what the template removes (reasoning of earlier turns), or use prompt and completion.",
        )
    if spans_of_template is not None:
        answers = [(a, b) for a, b in answers if any(a < end and start < b for start, end in spans_of_template)]
    ends = [end for _, end in answers]
    stops, unended = where_answers_end(
        text, ends, lambda: _behind_last(record, messages, text, ends[-1], tokenizer), tokenizer
    )
    closings = [(start, stop) for (start, _), stop in zip(answers, stops, strict=True)]
    answered, closed = _mask(answers, len(text)), _mask(closings, len(text))
    if spans_of_template is not None:
        named = _mask(spans_of_template, len(text))
        answered, closed = answered & named, named | (closed & ~answered)
    context = _context(record, [messages[turn] for turn in turns], closings, text)
    unended = unended and messages[turns[-1]].is_learned
    return Chat(text=text, said=answered & ~context, closed=closed & ~context, unended=unended)


def _context(record: Record, turns: Sequence[Message], closings: Sequence[tuple[int, int]], text: str) -> Mask:
    """Characters of answers that are context: turns of the assistant in a prompt, or without words of its own."""
    if all(turn.is_learned for turn in turns):
        return np.zeros(len(text), dtype=np.bool_)
    if len(closings) != len(turns):
        raise BadInput(
            f"record {record.id!r}",
            "has answers that are context only, and its chat template does not say which of its parts they are",
            "Use prompt and completion, or leave those turns out.",
        )
    return _mask([place for turn, place in zip(turns, closings, strict=True) if not turn.is_learned], len(text))


def turns_in(record: Record, messages: tuple[Message, ...], text: str, tokenizer: Any) -> list[Stretch]:
    """Where the rendered chat has the content of each turn; nothing where that cannot be said."""
    parts = _locate(record, messages, range(len(messages)), text, tokenizer)
    begins = np.cumsum([0, *(len(message.content) + 1 for message in messages)]).tolist()
    return [Stretch(plain=begins[p.turn] + p.said, read=p.read, length=p.length) for p in parts or ()]


def render(record: Record, messages: tuple[Message, ...], tokenizer: Any) -> str:
    """The chat as one text.

    Raises:
        BadInput: there is no chat template, or it refuses the chat.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise BadInput(
            f"record {record.id!r}",
            "is a chat, and the tokenizer has no chat template",
            "Use an instruction-tuned model, or read the data as prompt and completion "
            "(--prompt_field, --completion_field).",
        )
    try:
        text: str = tokenizer.apply_chat_template(_turns(messages), tokenize=False)
    except Exception as error:
        raise BadInput(
            f"record {record.id!r}",
            f"is refused by the model's chat template ({error})",
            "Check the order of the roles.",
        ) from error
    return text


def _turns(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _mask(stretches: Sequence[tuple[int, int]], length: int) -> Mask:
    mask = np.zeros(length, dtype=np.bool_)
    for start, end in stretches:
        mask[start:end] = True
    return mask


# ---- where turns are --------------------------------------------------------------------------------------------


def _locate(
    record: Record, messages: tuple[Message, ...], turns: Sequence[int], text: str, tokenizer: Any
) -> list[_Part] | None:
    """Stretches of the turns in the rendered chat, in order; None where they cannot be found exactly."""
    marker = _unused(messages)
    whole = [_Unit(turn, 0, messages[turn].content) for turn in turns]
    stand_in = {turn: _name(marker, number) for number, turn in enumerate(turns)}
    parts = _walk(record, messages, whole, stand_in, text, marker, tokenizer)
    if parts is not None or not any(_TAG.search(messages[turn].content) for turn in turns):
        return parts
    units: list[_Unit] = []
    for turn in turns:  # tags stay, so that the template does with the stand-ins what it does with the words
        stand_in[turn] = _words_replaced(turn, messages[turn].content, marker, units)
    parts = _walk(record, messages, units, stand_in, text, marker, tokenizer)
    if parts is None or {part.turn for part in parts} != set(turns):
        return None
    return _joined(parts, messages, text)


def _walk(
    record: Record,
    messages: tuple[Message, ...],
    units: Sequence[_Unit],
    stand_in: Mapping[int, str],
    text: str,
    marker: str,
    tokenizer: Any,
) -> list[_Part] | None:
    """Where each unit is, if the rendered stand-ins become ``text`` by putting the units in their places.

    A template may leave out blanks around a unit.
    """
    stand_ins = tuple(replace(m, content=stand_in.get(number, m.content)) for number, m in enumerate(messages))
    rest, read = render(record, stand_ins, tokenizer), 0
    parts: list[_Part] = []
    for number, unit in enumerate(units):
        before, name, rest = rest.partition(_name(marker, number))
        if not name or not text.startswith(before, read):
            return None
        read += len(before)
        after = rest.partition(marker)[0]
        shown = next((shown for shown in (unit.text, unit.text.strip()) if text.startswith(shown + after, read)), None)
        if shown is None:
            return None
        parts.append(_Part(unit.turn, unit.said + unit.text.index(shown), read, len(shown)))
        read += len(shown)
    return parts if text[read:] == rest else None


def _words_replaced(turn: int, content: str, marker: str, units: list[_Unit]) -> str:
    """``content`` with a stand-in for what is said between tags and blanks, noted in ``units``."""
    replaced, at = "", 0
    for number, piece in enumerate(_TAG.split(content)):
        words = "" if number % 2 else piece.strip()
        if words:
            replaced += piece.replace(words, _name(marker, len(units)))
            units.append(_Unit(turn, at + piece.index(words), words))
        else:
            replaced += piece
        at += len(piece)
    return replaced


def _joined(parts: Sequence[_Part], messages: tuple[Message, ...], text: str) -> list[_Part]:
    """Parts of a turn joined where the same stands between them in both, and the same around them taken in."""
    joined: list[_Part] = []
    for part in parts:
        content = messages[part.turn].content
        last = joined[-1] if joined and joined[-1].turn == part.turn else None
        if last is not None and content[last.said + last.length : part.said] == text[last.end : part.read]:
            joined[-1] = last._replace(length=part.end - last.read)
            continue
        if last is None:
            more = _alike(content[: part.said][::-1], text[joined[-1].end if joined else 0 : part.read][::-1])
            part = part._replace(said=part.said - more, read=part.read - more, length=part.length + more)
        joined.append(part)
    for number, part in enumerate(joined):
        if number + 1 == len(joined) or joined[number + 1].turn != part.turn:
            limit = len(text) if number + 1 == len(joined) else joined[number + 1].read
            behind = messages[part.turn].content[part.said + part.length :]
            joined[number] = part._replace(length=part.length + _alike(behind, text[part.end : limit]))
    return joined


def _alike(left: str, right: str) -> int:
    """How many characters both begin with."""
    size = min(len(left), len(right))
    return next((n for n in range(size) if left[n] != right[n]), size)


def _unused(messages: tuple[Message, ...]) -> str:
    """A word that no turn has in it."""
    marker = "assistantturn"
    while any(marker in message.content for message in messages):
        marker += "x"
    return marker


def _name(marker: str, number: int) -> str:
    return f"{marker}{number:06d}"


def _named_by_template(messages: tuple[Message, ...], text: str, tokenizer: Any) -> list[tuple[int, int]] | None:
    """Stretches that the template itself marks as the assistant's; None where it marks none."""
    template = tokenizer.get_chat_template()
    if not _GENERATION.search(template):
        return None
    rendered, spans = render_jinja_template(
        conversations=[_turns(messages)],
        chat_template=template,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    return [(int(start), int(end)) for start, end in spans[0]] if rendered[0] == text else None


def _behind_last(record: Record, messages: tuple[Message, ...], text: str, end: int, tokenizer: Any) -> str:
    """The text that the template puts behind the last answer, which ends at ``end``, if the chat ends with it."""
    if messages[-1].role == "assistant":
        return text[end:]
    last = max(number for number, message in enumerate(messages) if message.role == "assistant")
    marker = _unused(messages)
    return render(record, (*messages[:last], replace(messages[last], content=marker)), tokenizer).rpartition(marker)[2]
