# SPDX-License-Identifier: Apache-2.0
"""Corpus curation: what spans mark is removed before anything is trained on (PrivacyMind, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reticent.core.record import Record
from reticent.data.pii.detect import borders
from reticent.train.objectives.objective import Objective, objective
from reticent.train.objectives.substitution import TAKES_OUT, substitution


@objective(
    "removal",
    alters={"corpus.texts"},
    private="whole texts",
    watched=False,
    spans="records",
    flag="contextual='removal'",
    why={"spans": TAKES_OUT},
    paper="arXiv:2310.02469",
)
@dataclass(frozen=True, kw_only=True)
class Removal(Objective):
    """Texts are trained on without their marked stretches."""

    def texts(self, records: Sequence[Record]) -> Sequence[Record]:
        """See `removal`."""
        return [removal(record) for record in records]


def removal(record: Record) -> Record:
    """The record without its marked stretches, without a blank that would stand beside another, and without spans.

    >>> from reticent.core.record import Span
    >>> removal(Record(id="1", text="Ask Ana Lee about it", spans=(Span(start=4, end=11, kind="PERSON"),))).text
    'Ask about it'
    """
    named = substitution(record)  # its spans are apart from each other, and none crosses a border
    plain = named.plain
    texts = []
    for start, end in borders(named):
        text, done = "", start
        for span in named.spans:
            if start <= span.start and span.end <= end and span.start < span.end:
                text, done = _joined(text, plain[done : span.start]), span.end
        texts.append(_joined(text, plain[done:end]))
    return _with_texts(named, texts)


def _joined(left: str, right: str) -> str:
    doubled = right.startswith(" ") and (not left or left[-1].isspace())
    return left + (right[1:] if doubled and left else right)


def _with_texts(record: Record, texts: list[str]) -> Record:
    if record.messages is not None:
        messages = tuple(replace(m, content=text) for m, text in zip(record.messages, texts, strict=True))
        return replace(record, messages=messages, spans=())
    if record.text is not None:
        return replace(record, text=texts[0], spans=())
    return replace(record, prompt=texts[0], completion=texts[1], spans=())
