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
from reticent.core.record import Record
from reticent.models.chat import Chat, read_chat, turns_in
from reticent.models.spans import check_spans as check_spans
from reticent.models.spans import hidden_characters, piece_by_piece
from reticent.models.spans import touching as touching
from reticent.models.tokens import Tokens, holding, tokenise
from reticent.models.tokens import leading_tokens as leading_tokens
from reticent.models.turn_ends import warn_of_no_end

Mask = npt.NDArray[np.bool_]

IGNORED = -100
"""Label of a token that is not trained on, as Hugging Face has it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedRecord:
    """A record as a model reads it.

    Args:
        token_id: ``[n]`` int32.
        trained: ``[n]`` bool: the token is one that training makes more likely. Prompts and what a tokenizer puts
            before a text are not. The first token of a text is marked as trained although no model predicts it unless
            something precedes it.
        truncated: whether tokens were cut off at the end.
        marked: ``[n]`` bool: the token has a character of one of the record's spans in it; None where nobody asked.

    Examples:
        >>> from reticent.testing.tiny import tiny_tokenizer
        >>> row = encode(Record(id="a", text="hello"), tiny_tokenizer())
        >>> row.predicted
        4
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
) -> EncodedRecord:
    """Token ids and loss mask of a record.

    The tokens are those of the text as a whole: prompt and completion one behind the other, with what the tokenizer
    puts around a text, or the chat as its template renders it. A token is trained on if it stands for a character of
    the completion, or of an answer; one that lies across the end of a prompt is.

    Args:
        record: what to encode.
        tokenizer: a Hugging Face tokenizer; a fast one where only a part is trained on.
        max_tokens: cut off what goes beyond; None for all of it.
        add_eos: end what is trained on with the end-of-text token, unless the text ends with it, and train on what ends
            an answer of a chat. True for training, False for scoring: what every record ends with says nothing about
            one of them.
        mark_spans: say which tokens touch ``record.spans``. A token that lies across the border of a span touches it.

    Raises:
        BadInput: a chat without a chat template, or with one in which the turns cannot be found exactly; spans outside
            of the text, or a tokenizer that cannot say which characters its tokens stand for.

    Warns:
        UserWarning: nothing ends an answer of the chat, so that training cannot teach to end one.
    """
    if max_tokens is not None:
        validate.positive(max_tokens=max_tokens)
    chat = None if record.messages is None else read_chat(record, record.messages, tokenizer)
    if chat is None:
        text = "".join(piece for _, piece in record.pieces)
        wanted = np.repeat([trained for trained, _ in record.pieces], [len(piece) for _, piece in record.pieces])
    else:
        text, wanted = chat.text, chat.closed if add_eos else chat.said
    hidden = _hidden(record, text, tokenizer) if mark_spans else np.zeros(0, dtype=np.bool_)
    partly = bool(wanted.any() and not wanted.all())
    tokens = tokenise(text, tokenizer, around=chat is None, offsets=partly or bool(hidden.any()))
    trained = tokens.spread(_held(tokens, wanted))
    marked = tokens.spread(_touched(tokens, hidden))
    token_id = tokens.token_id
    if chat is None:
        token_id, trained = _ended(tokens, trained, tokenizer, add_eos)
    elif add_eos:
        token_id, trained = _answered(chat, token_id, trained, tokenizer)
    marked = np.concatenate([marked, np.zeros(len(token_id) - len(marked), dtype=np.bool_)])
    return EncodedRecord(
        token_id=np.asarray(token_id[:max_tokens], dtype=np.int32),
        trained=trained[:max_tokens],
        truncated=max_tokens is not None and len(token_id) > max_tokens,
        marked=marked[:max_tokens] if mark_spans else None,
    )


def opening_tokens(text: str, tokenizer: Any) -> list[int]:
    """The tokens of a text that a model is to go on with: without what the tokenizer puts behind a text."""
    tokens = tokenise(text, tokenizer)
    return tokens.token_id[: len(tokens) - tokens.tail]


def _held(tokens: Tokens, wanted: Mask) -> Mask:
    if tokens.offsets is not None and not wanted.all():
        return holding(tokens.offsets, wanted)
    return np.full(len(tokens) - tokens.lead - tokens.tail, bool(wanted.any()))


def _touched(tokens: Tokens, hidden: Mask) -> Mask:
    if tokens.offsets is not None and hidden.any():
        return touching(tokens.offsets, hidden)
    return np.zeros(len(tokens) - tokens.lead - tokens.tail, dtype=np.bool_)


def _hidden(record: Record, text: str, tokenizer: Any) -> Mask:
    """``[characters]`` bool, True where a character that the model reads lies in a span."""
    check_spans(record)
    if not record.spans:
        return np.zeros(len(text), dtype=np.bool_)
    if record.messages is None:
        stretches = list(piece_by_piece(record))
    else:
        stretches = turns_in(record, record.messages, text, tokenizer)
    return hidden_characters(record, stretches, len(text))


# ---- ends -------------------------------------------------------------------------------------------------------


def _ended(tokens: Tokens, trained: Mask, tokenizer: Any, add_eos: bool) -> tuple[list[int], Mask]:
    """A text with its end: what the tokenizer puts there, what the text ends with itself, else the end-of-text token.

    Ends are trained on where ``add_eos`` and never scored.
    """
    token_id, end = tokens.token_id, getattr(tokenizer, "eos_token_id", None)
    has_end = int(not tokens.tail and len(tokens) > tokens.lead and token_id[-1] == end and bool(trained[-1]))
    ends = tokens.tail + has_end
    if add_eos and not has_end and end not in token_id[len(token_id) - tokens.tail :]:
        if end is None and not tokens.tail:
            raise BadInput("the tokenizer", "has no end-of-text token", "Set eos_token in its tokenizer_config.json.")
        if end is not None:
            token_id, trained, ends = [*token_id, int(end)], np.append(trained, True), ends + 1
    if ends:
        trained = np.concatenate([trained[: len(trained) - ends], np.full(ends, add_eos)])
    return token_id, trained


def _answered(chat: Chat, token_id: list[int], trained: Mask, tokenizer: Any) -> tuple[list[int], Mask]:
    """A chat with an end of its last answer, if the template gives none and there is one to give."""
    if chat.unended and tokenizer.eos_token_id is not None:
        return [*token_id, int(tokenizer.eos_token_id)], np.append(trained, True)
    if chat.unended or (chat.said.any() and not (chat.closed & ~chat.said).any()):
        warn_of_no_end(tokenizer)
    return token_id, trained
