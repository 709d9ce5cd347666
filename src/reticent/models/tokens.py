# SPDX-License-Identifier: Apache-2.0
"""A text as its tokenizer reads it: once and as a whole, with what the tokenizer puts around it, and which characters
each token stands for.

Texts are never tokenised in pieces: a tokenizer of the SentencePiece kind puts a blank before every string that it is
given, so the tokens of two pieces are not those of the text that they make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """The tokens of one text.

    Args:
        token_id: ``[n]`` all of them.
        lead: how many at the front are what this tokenizer puts before every text.
        tail: how many at the end are what it puts behind every text.
        offsets: ``[n - lead - tail, 2]`` first character and end of the tokens between; None where nobody asked.
    """

    token_id: list[int]
    lead: int
    tail: int
    offsets: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.token_id)

    def spread(self, mask: Mask) -> Mask:
        """A mask of the tokens between as one of all tokens: what stands around the text is not in it."""
        return np.concatenate([np.zeros(self.lead, np.bool_), mask, np.zeros(self.tail, np.bool_)])


def tokenise(text: str, tokenizer: Any, *, around: bool = True, offsets: bool = False) -> Tokens:
    """Tokens of ``text``, read as a whole.

    Args:
        text: all that the model is to read.
        tokenizer: a Hugging Face tokenizer.
        around: with what the tokenizer puts before and behind a text (``<s>``, ``[gMASK]<sop>``, ``</s>``). What the
            text itself begins or ends with is not put there a second time.
        offsets: say which characters each token stands for.

    Raises:
        BadInput: offsets are asked of a tokenizer that does not know them.
    """
    if offsets and not getattr(tokenizer, "is_fast", False):
        raise BadInput(
            f"the tokenizer {type(tokenizer).__name__}",
            "is a slow one, which does not say which characters its tokens stand for, so spans, completions and the "
            "answers of a chat cannot be found",
            "Use a model with a fast tokenizer (tokenizer.json).",
        )
    ids, before, behind, offset = _read(text, tokenizer, offsets)
    if not around:
        return Tokens(token_id=ids, lead=0, tail=0, offsets=offset)
    written = _overlap(before, ids)
    closed = _overlap(ids[written:], behind)
    between = slice(written, len(ids) - closed)
    return Tokens(
        token_id=[*before, *ids[between], *behind],
        lead=len(before),
        tail=len(behind),
        offsets=None if offset is None else offset[between],
    )


def leading_tokens(tokenizer: Any) -> list[int]:
    """Tokens that the tokenizer puts before every text by itself: often one beginning-of-text token or nothing."""
    return _read("a", tokenizer, False)[1]


def trailing_tokens(tokenizer: Any) -> list[int]:
    """Tokens that the tokenizer puts behind every text by itself: mostly nothing."""
    return _read("a", tokenizer, False)[2]


def holding(offsets: npt.NDArray[np.int64], wanted: Mask) -> Mask:
    """``[n]`` whether a token stands for one of the wanted characters.

    Some tokenizers leave blanks out of their offsets. A token that would have no character then stands for what lies
    between it and the token before; if that is nothing, it is a further part of the same character as that token (the
    first token: of the first character).

    Args:
        offsets: ``[n, 2]`` first character and end of each token.
        wanted: of each character of the text.
    """
    start, end = offsets[:, 0], offsets[:, 1]
    stop = np.maximum.accumulate(np.concatenate([[0], end]))[:-1]
    start = np.where(start == end, np.minimum(start, stop), start)
    before = np.concatenate([[0], np.cumsum(wanted)])  # wanted characters before each
    held: Mask = before[end] > before[start]
    for row in np.flatnonzero(start == end).tolist():
        held[row] = held[row - 1] if row else wanted[:1].any()
    return held


def _read(
    text: str, tokenizer: Any, offsets: bool
) -> tuple[list[int], list[int], list[int], npt.NDArray[np.int64] | None]:
    """Tokens of the text, those before and behind it, and the offsets of the first."""
    if not getattr(tokenizer, "is_fast", False):
        ids = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        return ids, *_around(ids, list(tokenizer(text, verbose=False)["input_ids"])), None
    read = tokenizer(text, return_special_tokens_mask=True, return_offsets_mapping=offsets, verbose=False)
    text_tokens = np.flatnonzero(np.array(read["special_tokens_mask"], dtype=np.int64) == 0)
    whole = [int(token) for token in read["input_ids"]]
    if not text_tokens.size:
        return (
            [],
            *((leading_tokens(tokenizer), trailing_tokens(tokenizer)) if whole else ([], [])),
            (np.zeros((0, 2), dtype=np.int64) if offsets else None),
        )
    first, end = int(text_tokens[0]), int(text_tokens[-1]) + 1
    offset = np.array(read["offset_mapping"], dtype=np.int64).reshape(-1, 2)[first:end] if offsets else None
    return whole[first:end], whole[:first], whole[end:], offset


def _around(ids: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
    """The parts of ``whole`` before and behind ``ids``; empty where ``ids`` is not a part of it."""
    for start in range(len(whole) - len(ids), -1, -1):  # of several places the last: the rest stands before
        if whole[start : start + len(ids)] == ids:
            return whole[:start], whole[start + len(ids) :]
    return [], []


def _overlap(left: list[int], right: list[int]) -> int:
    """The most tokens with which ``left`` ends and ``right`` begins."""
    return next(n for n in range(min(len(left), len(right)), -1, -1) if left[len(left) - n :] == right[:n])
