# SPDX-License-Identifier: Apache-2.0
"""Turn a record into token ids and say which of them are trained on. Training and scoring both use this, so that the
tokens that a model is attacked with are the tokens that it was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.record import Message, Record

Piece = tuple[bool, str]
"""Whether it is trained on, and the text."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """A record as a model reads it.

    Args:
        token_id: ``[n]`` int32.
        trained: ``[n]`` bool: the token is one that training makes more likely. Prompts and a beginning-of-text token
            are not. The first token of a text is marked as trained although no model predicts it unless something
            precedes it.
        truncated: whether tokens were cut off at the end.
        marked: ``[n]`` bool: the token has a character of one of the record's spans in it; None where nobody asked.
    """

    token_id: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]
    truncated: bool = False
    marked: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.token_id)

    @property
    def predicted(self) -> int:
        """How many of the trained tokens a model predicts: nothing comes before the very first one."""
        return int(self.trained[1:].sum())


def encode(
    record: Record,
    tokenizer: Any,
    *,
    max_tokens: int | None = None,
    add_eos: bool = False,
    mark_spans: bool = False,
) -> Encoded:
    """Token ids and loss mask of a record.

    The pieces of a record (prompt, completion, the turns of a chat and what its template puts around them) are
    tokenised one by one, so that no token lies across the end of a prompt.

    Args:
        record: what to encode.
        tokenizer: a Hugging Face tokenizer. A beginning-of-text token is added only where it adds one by itself.
        max_tokens: cut off what goes beyond; None for all of it.
        add_eos: end what is trained on with the end-of-text token, in chats with the token that ends a turn. True for
            training, False for scoring: a token that every record ends with says nothing about one of them.
        mark_spans: say which tokens touch ``record.spans``. A token that lies across the border of a span touches it.

    Raises:
        BadInput: a chat without a chat template, or with one in which the turns cannot be found exactly; spans outside
            of the text, or a tokenizer that cannot say which characters its tokens stand for.
    """
    if max_tokens is not None:
        validate.positive(max_tokens=max_tokens)
    if record.messages is not None:
        pieces, whole = _chat_pieces(record, record.messages, tokenizer, add_eos), False
    else:
        pieces, whole = list(record.pieces), True
    hidden = _hidden(record, pieces, tokenizer) if mark_spans else np.zeros(0, dtype=np.bool_)
    token_id: list[int] = leading_tokens(tokenizer) if whole else []
    trained, marked = [False] * len(token_id), [False] * len(token_id)
    read = 0
    for is_trained, text in pieces:
        ids = _ids(tokenizer, text)
        token_id += ids
        trained += [is_trained] * len(ids)
        marked += _touching(tokenizer, text, hidden[read : read + len(text)]) or [False] * len(ids)
        read += len(text)
    if add_eos and whole:
        token_id.append(_end(tokenizer))
        trained.append(True)
        marked.append(False)
    truncated = max_tokens is not None and len(token_id) > max_tokens
    return Encoded(
        token_id=np.asarray(token_id[:max_tokens], dtype=np.int32),
        trained=np.asarray(trained[:max_tokens], dtype=np.bool_),
        truncated=truncated,
        marked=np.asarray(marked[:max_tokens], dtype=np.bool_) if mark_spans else None,
    )


def leading_tokens(tokenizer: Any) -> list[int]:
    """The beginning-of-text token, if the tokenizer puts one before a text by itself."""
    with_special = tokenizer("a", verbose=False)["input_ids"]
    start = tokenizer.bos_token_id
    starts = start is not None and with_special[:1] == [start] and _ids(tokenizer, "a")[:1] != [start]
    return [start] if starts else []


def _ids(tokenizer: Any, text: str) -> list[int]:
    if not text:
        return []
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _end(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise BadInput("the tokenizer", "has no end-of-text token", "Set eos_token in its tokenizer_config.json.")
    end: int = tokenizer.eos_token_id
    return end


# ---- spans ------------------------------------------------------------------------------------------------------


class _Stretch(NamedTuple):
    """A part of ``Record.plain`` and where the model reads it."""

    plain: int
    read: int
    length: int


def check_spans(record: Record) -> None:
    """Refuse spans that are not stretches of ``record.plain``.

    Raises:
        BadInput: one begins before the text, ends behind it, or has no character.
    """
    length = len(record.plain)
    for span in record.spans:
        if not 0 <= span.start < span.end <= length:
            raise BadInput(
                f"record {record.id!r}",
                f"has a span from {span.start} to {span.end}, and its text has {length} characters",
                "Count characters of the text from 0, the end not included; prompt and completion, or the turns of a "
                "chat, are joined by one line break.",
            )


def _hidden(record: Record, pieces: list[Piece], tokenizer: Any) -> npt.NDArray[np.bool_]:
    """Which characters of what the model reads (the pieces, one behind the other) lie in a span; ``[characters]``."""
    check_spans(record)
    read = "".join(text for _, text in pieces)
    hidden = np.zeros(len(read), dtype=np.bool_)
    if not record.spans:
        return hidden
    turns = record.messages
    stretches = _one_by_one(pieces) if turns is None else _turns_in(record, turns, read, tokenizer)
    for stretch in stretches:
        for span in record.spans:
            start = max(span.start - stretch.plain, 0)
            end = min(span.end - stretch.plain, stretch.length)
            hidden[stretch.read + start : stretch.read + max(start, end)] = True
    return hidden


def _one_by_one(pieces: list[Piece]) -> Iterable[_Stretch]:
    read = 0
    for number, (_, text) in enumerate(pieces):
        yield _Stretch(plain=read + number, read=read, length=len(text))  # pieces of plain are joined by a line break
        read += len(text)


def _touching(tokenizer: Any, text: str, hidden: npt.NDArray[np.bool_]) -> list[bool]:
    """For each token of ``text``, whether one of its characters is hidden; empty where no character is.

    A character that the tokenizer gives to no token, such as a space before a word, counts for both tokens around it.
    """
    if not hidden.any():
        return []
    if not getattr(tokenizer, "is_fast", False):
        raise BadInput(
            f"the tokenizer {type(tokenizer).__name__}",
            "is a slow one, which does not say which characters its tokens stand for, so spans cannot be found",
            "Use a model with a fast tokenizer (tokenizer.json).",
        )
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return touching(np.array(found, dtype=np.int64).reshape(-1, 2), hidden).tolist()


def touching(offsets: npt.NDArray[np.int64], hidden: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """``[n]`` whether a hidden character belongs to each token, or lies between it and a neighbour.

    Args:
        offsets: ``[n, 2]`` first character and end of each token; a further token of one character may be empty.
        hidden: of each character of the text.
    """
    start, end = offsets[:, 0], offsets[:, 1]
    stop = np.maximum.accumulate(np.concatenate([[0], end]))[:-1]
    behind = np.concatenate([start[1:], [len(hidden)]])
    before = np.concatenate([[0], np.cumsum(hidden)])  # hidden characters before each
    touched: npt.NDArray[np.bool_] = before[np.maximum(end, behind)] > before[np.minimum(start, stop)]
    for row in np.flatnonzero((start == end) & (start == stop)).tolist():
        touched[row] |= row > 0 and touched[row - 1]
    return touched


# ---- chats ------------------------------------------------------------------------------------------------------


def _chat_pieces(record: Record, messages: tuple[Message, ...], tokenizer: Any, add_eos: bool) -> list[Piece]:
    """The rendered chat, cut at the assistant's turns.

    The chat is rendered twice: with each assistant turn replaced by a marker, to learn what the template puts around
    the turns, and as it is, to check that marker for turn gives the very same text. A template that rewrites turns
    (drops earlier reasoning, say) fails the check and is refused, because a mask that is off by a few tokens would
    make every figure silently wrong.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise BadInput(
            f"record {record.id!r}",
            "is a chat, and the tokenizer has no chat template",
            "Use an instruction-tuned model, or read the data as prompt and completion "
            "(--prompt_field, --completion_field).",
        )
    whole = _render(record, messages, tokenizer)
    answers = [message.content for message in messages if message.role == "assistant"]
    if not answers:
        return [(False, whole)]
    around = _around_answers(record, messages, tokenizer)
    for said in (answers, [answer.strip() for answer in answers]):
        if len(around) == len(said) + 1 and _join(around, said) == whole:
            learned = [message.is_learned for message in messages if message.role == "assistant"]
            return _marked(around, said, learned, tokenizer, add_eos)
    raise BadInput(
        f"record {record.id!r}",
        "has turns that the chat template rewrites, so what is trained on cannot be marked exactly",
        "Leave out what the template removes (reasoning of earlier turns), or use prompt and completion.",
    )


def _around_answers(record: Record, messages: tuple[Message, ...], tokenizer: Any) -> list[str]:
    """What the template puts before, between and after the assistant's turns."""
    marker = _unused(messages)
    marked = tuple(Message(role=m.role, content=marker) if m.role == "assistant" else m for m in messages)
    return _render(record, marked, tokenizer).split(marker)


def _join(around: list[str], answers: list[str]) -> str:
    return around[0] + "".join(answer + after for answer, after in zip(answers, around[1:], strict=True))


def _marked(around: list[str], answers: list[str], learned: list[bool], tokenizer: Any, add_eos: bool) -> list[Piece]:
    pieces: list[Piece] = [(False, around[0])]
    for answer, is_learned, after in zip(answers, learned, around[1:], strict=True):
        ends = _turn_end(after, tokenizer)
        pieces += [(is_learned, answer), (is_learned and add_eos, ends), (False, after[len(ends) :])]
    return pieces


def _turns_in(record: Record, messages: tuple[Message, ...], whole: str, tokenizer: Any) -> list[_Stretch]:
    """Where the content of each turn is in the rendered chat ``whole``, blanks around it left out if the template does.

    Found like the assistant's turns: by a chat in which each turn is a marker of its own.
    """
    marker = _unused(messages)
    names = [f"{marker}{number:06d}" for number in range(len(messages))]
    named = tuple(Message(role=m.role, content=name) for m, name in zip(messages, names, strict=True))
    rest = _render(record, named, tokenizer)
    found, plain, read = [], 0, 0
    for message, name in zip(messages, names, strict=True):
        before, _, rest = rest.partition(name)
        read += len(before)
        after = rest.partition(marker)[0]
        said = next(
            (said for said in (message.content, message.content.strip()) if whole.startswith(said + after, read)), None
        )
        if said is None or not whole.startswith(before, read - len(before)):
            break
        found.append(_Stretch(plain=plain + message.content.index(said), read=read, length=len(said)))
        plain += len(message.content) + 1
        read += len(said)
    if len(found) < len(messages) or whole[read:] != rest:
        raise BadInput(
            f"record {record.id!r}",
            "has turns that the chat template rewrites, so its spans cannot be found in what the model reads",
            "Leave out what the template removes (reasoning of earlier turns), or use prompt and completion.",
        )
    return found


def _unused(messages: tuple[Message, ...]) -> str:
    """A word that no turn has in it."""
    marker = "assistantturn"
    while any(marker in message.content for message in messages):
        marker += "x"
    return marker


def _turn_end(after: str, tokenizer: Any) -> str:
    """The special token that ``after`` begins with, or ``""``."""
    found = [token for token in tokenizer.get_added_vocab() if token and after.startswith(token)]
    return max(found, key=len, default="")


def _render(record: Record, messages: tuple[Message, ...], tokenizer: Any) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception as error:
        raise BadInput(
            f"record {record.id!r}",
            f"is refused by the model's chat template ({error})",
            "Check the order of the roles.",
        ) from error
    return text
