# SPDX-License-Identifier: Apache-2.0
"""Sensitive stretches of a record: where they are in what the model reads, and which tokens touch them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.record import Record


class Stretch(NamedTuple):
    """A part of ``Record.plain`` and where the model reads it, letter for letter."""

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


def piece_by_piece(record: Record) -> Iterable[Stretch]:
    """Prompt and completion, or a text, one behind the other; pieces of ``plain`` have a line break between them."""
    read = 0
    for number, (_, text) in enumerate(record.pieces):
        yield Stretch(plain=read + number, read=read, length=len(text))
        read += len(text)


def hidden_characters(record: Record, stretches: Sequence[Stretch], length: int) -> npt.NDArray[np.bool_]:
    """``[length]`` which characters of what the model reads lie in a span.

    Raises:
        BadInput: a span has characters other than blanks that are in none of the stretches, so the model reads them
            elsewhere, in other words, or not at all.
    """
    hidden = np.zeros(length, dtype=np.bool_)
    readable = np.array([letter.isspace() for letter in record.plain], dtype=np.bool_)
    for stretch in stretches:
        readable[stretch.plain : stretch.plain + stretch.length] = True
    for span in record.spans:
        if not readable[span.start : span.end].all():
            raise BadInput(
                f"record {record.id!r}",
                "has turns that the chat template rewrites, so its spans cannot be found in what the model reads",
                "Leave out what the template removes (reasoning of earlier turns), or use prompt and completion.",
            )
        for stretch in stretches:
            start = max(span.start - stretch.plain, 0)
            end = min(span.end - stretch.plain, stretch.length)
            hidden[stretch.read + start : stretch.read + max(start, end)] = True
    return hidden


def touching(offsets: npt.NDArray[np.int64], hidden: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """``[n]`` whether a hidden character belongs to each token, or lies between it and a neighbour.

    A character that the tokenizer gives to no token, such as a space before a word, counts for both tokens around it.

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
