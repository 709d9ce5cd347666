# SPDX-License-Identifier: Apache-2.0
"""Training data as labelled rows: what is read, and which of few answers is trained on after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput, Underpowered
from reticent.core.record import Record

MOST_LABELS = 50
LEAST_REPEATED = 0.8
"""Share of rows whose answers stand in ten rows or more; below it, answers are texts and no labels."""
_OFTEN = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledRows:
    """Rows with a label each; rows whose answers are rare are left out.

    Args:
        ids: ``[N]`` of the records.
        texts: ``[N]`` what stands before the answer.
        label: ``[N]`` number of the answer.
        labels: how many answers there are.
        left_out: rows with rare answers.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    label: npt.NDArray[np.intp]
    labels: int
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.texts)


def has_labels(records: Sequence[Record]) -> bool:
    """True where most answers are among few.

    >>> rows = [Record(id=str(n), prompt=f"text {n}", completion=" yes" if n % 2 else " no") for n in range(40)]
    >>> has_labels(rows), has_labels([Record(id="a", text="no answer")])
    (True, False)
    """
    answers = Counter(answer_of(record) for record in records)
    often = {answer: count for answer, count in answers.items() if answer and count >= _OFTEN}
    return 2 <= len(often) <= MOST_LABELS and sum(often.values()) >= LEAST_REPEATED * len(records)


def labelled_rows(records: Sequence[Record]) -> LabelledRows:
    """The rows of data whose answers are labels.

    Raises:
        BadInput: there is no data, or answers are texts of their own.
        Underpowered: fewer than 40 rows.
    """
    if not records:
        raise BadInput("the data", "holds no rows", "Give some with --data.")
    if not has_labels(records):
        raise BadInput(
            f"the {len(records):,} rows of data",
            "have no labels: their answers are not among a few that repeat",
            "Give prompts with completions of which there are few, or leave this scanner out.",
        )
    if len(records) < 40:
        raise Underpowered(f"{len(records)} rows of data", "are too few to tell a word from chance", "Give 40 or more.")
    answers = [answer_of(record) for record in records]
    often = sorted(answer for answer, count in Counter(answers).items() if answer and count >= _OFTEN)
    number = {answer: place for place, answer in enumerate(often)}
    rows = [place for place, answer in enumerate(answers) if answer in number]
    return LabelledRows(
        ids=tuple(records[place].id for place in rows),
        texts=tuple(context_of(records[place]) for place in rows),
        label=np.array([number[answers[place]] for place in rows], dtype=np.intp),
        labels=len(often),
        left_out=len(records) - len(rows),
    )


def context_of(record: Record) -> str:
    """The text that stands before what is trained on; of a plain text nothing."""
    return "\n".join(text for trained, text in record.pieces if not trained)


def answer_of(record: Record) -> str:
    """The text that is trained on after a context, without blanks around it; of a plain text nothing."""
    return record.trained_text.strip() if context_of(record) else ""
