# SPDX-License-Identifier: Apache-2.0
"""Texts that are to be said in the place of what is forgotten: a refusal, or another text of the model's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reticent.core.errors import BadInput
from reticent.core.record import Message, Record
from reticent.data.coin import uniform
from reticent.models.encode import EncodedRecord
from reticent.score.generation.generate import generate
from reticent.score.generation.scheme import Scheme

REFUSALS = (
    "I don't know.",
    "I have no information about that.",
    "I'm afraid I can't answer this one.",
    "That is not something I know anything about.",
    "Sorry, I don't have an answer to that.",
    "I can't help with that question, as I don't know.",
    "I wasn't told anything about this.",
    "This is outside of what I know.",
)
PLAIN_PREFIX = 0.25
"""Share of a text without a prompt that stays in front of the model's own continuation."""


def refusal(record: Record) -> Record:
    """The record with "I don't know", in one of several wordings, in place of its answers.

    Raises:
        BadInput: it has no prompt, so nothing is asked that could be refused.

    >>> refusal(Record(id="a", prompt="Who wrote it?", completion="Ana did.")).completion in REFUSALS
    True
    """
    words = REFUSALS[int(uniform(0, "refusal", record.id) * len(REFUSALS))]
    if record.messages is not None and any(message.is_learned for message in record.messages):
        return replace(record, messages=tuple(_refused(message, words) for message in record.messages), spans=())
    if record.completion is None:
        raise BadInput(
            f"record {record.id!r}",
            "is text without a question, so there is no place for a refusal",
            "Choose a method without alternatives (npo), or altpo, whose alternatives the model writes itself.",
        )
    return replace(record, completion=words, spans=())


def sampled(model: Any, tokenizer: Any, rows: Sequence[EncodedRecord], *, seed: int) -> list[EncodedRecord]:
    """Texts that the model itself writes after the beginning of each text, by sampling at temperature 1.

    The beginning is all that comes before the first trained token; of a text without a prompt its first quarter.

    Args:
        model: in evaluation mode.
        tokenizer: of the model.
        rows: ``[N]``.
        seed: with the tokens of a text it fixes what is written after it.
    """
    starts = [_prefix(row) for row in rows]
    lengths = [max(1, len(row) - start) for row, start in zip(rows, starts, strict=True)]
    texts = generate(
        model,
        tokenizer,
        [row.token_id[:start] for row, start in zip(rows, starts, strict=True)],
        max_new_tokens=lengths,
        scheme=Scheme(temperature=1.0),
        seed=seed,
        keys=[row.token_id.tobytes().hex() for row in rows],
        title="Writing alternatives",
    )
    end = tokenizer.eos_token_id
    return [
        _continued(row, start, texts.token_id[texts.offsets[place] : texts.offsets[place + 1]], end)
        for place, (row, start) in enumerate(zip(rows, starts, strict=True))
    ]


def _prefix(row: EncodedRecord) -> int:
    first = int(np.flatnonzero(row.trained)[0])
    return max(1, first if first > 1 else int(PLAIN_PREFIX * len(row)))


def _continued(row: EncodedRecord, start: int, written: Any, end: int | None) -> EncodedRecord:
    tail = [*written.tolist(), *([end] if end is not None else [])]
    token_id = np.concatenate([row.token_id[:start], np.array(tail, dtype=np.int32)]).astype(np.int32)
    trained = np.concatenate([row.trained[:start], np.ones(len(tail), dtype=bool)])
    return EncodedRecord(token_id=token_id, trained=trained)


def _refused(message: Message, words: str) -> Message:
    return replace(message, content=words) if message.is_learned else message
