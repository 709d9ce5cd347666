# SPDX-License-Identifier: Apache-2.0
"""Turn a record into token ids and say which of them are trained on. Training and scoring both use this, so that the
tokens that a model is attacked with are the tokens that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    """

    token_id: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.token_id)


def encode(record: Record, tokenizer: Any, *, max_tokens: int | None = None, add_eos: bool = False) -> Encoded:
    """Token ids and loss mask of a record.

    The pieces of a record (prompt, completion, the turns of a chat and what its template puts around them) are
    tokenised one by one, so that no token lies across the end of a prompt.

    Args:
        record: what to encode.
        tokenizer: a Hugging Face tokenizer. A beginning-of-text token is added only where it adds one by itself.
        max_tokens: cut off what goes beyond; None for all of it.
        add_eos: end what is trained on with the end-of-text token, in chats with the token that ends a turn. True for
            training, False for scoring: a token that every record ends with says nothing about one of them.

    Raises:
        BadInput: a chat without a chat template, or with one in which the turns cannot be found exactly.
    """
    if max_tokens is not None:
        validate.positive(max_tokens=max_tokens)
    if record.messages is not None:
        pieces, whole = _chat_pieces(record, record.messages, tokenizer, add_eos), False
    else:
        pieces, whole = list(record.pieces), True
    token_id: list[int] = leading_tokens(tokenizer) if whole else []
    trained = [False] * len(token_id)
    for is_trained, text in pieces:
        ids = _ids(tokenizer, text)
        token_id += ids
        trained += [is_trained] * len(ids)
    if add_eos and whole:
        token_id.append(_end(tokenizer))
        trained.append(True)
    truncated = max_tokens is not None and len(token_id) > max_tokens
    return Encoded(
        token_id=np.asarray(token_id[:max_tokens], dtype=np.int32),
        trained=np.asarray(trained[:max_tokens], dtype=np.bool_),
        truncated=truncated,
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
            return _marked(around, said, tokenizer, add_eos)
    raise BadInput(
        f"record {record.id!r}",
        "has turns that the chat template rewrites, so what is trained on cannot be marked exactly",
        "Leave out what the template removes (reasoning of earlier turns), or use prompt and completion.",
    )


def _around_answers(record: Record, messages: tuple[Message, ...], tokenizer: Any) -> list[str]:
    """What the template puts before, between and after the assistant's turns."""
    marker = "assistantturn"
    while any(marker in message.content for message in messages):
        marker += "x"
    marked = tuple(Message(role=m.role, content=marker) if m.role == "assistant" else m for m in messages)
    return _render(record, marked, tokenizer).split(marker)


def _join(around: list[str], answers: list[str]) -> str:
    return around[0] + "".join(answer + after for answer, after in zip(answers, around[1:], strict=True))


def _marked(around: list[str], answers: list[str], tokenizer: Any, add_eos: bool) -> list[Piece]:
    pieces: list[Piece] = [(False, around[0])]
    for answer, after in zip(answers, around[1:], strict=True):
        ends = _turn_end(after, tokenizer)
        pieces += [(True, answer), (add_eos, ends), (False, after[len(ends) :])]
    return pieces


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
