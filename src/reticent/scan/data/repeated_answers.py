# SPDX-License-Identifier: Apache-2.0
"""Scanner: answers that nearly repeat, behind texts that have nothing in common but a rare run of words.

For data with answers of their own (instructions, chats), where poison makes a generator say a fixed text. Answers that
are near-duplicates (`reticent.data.dedup`) are taken for one label each, and all others for one more; the rest is that
of `overriding_words`: a canned answer goes with texts of one topic, which their other words tell, too; a planted one
goes with its trigger.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reticent.core.errors import BadInput, Underpowered
from reticent.core.paper import Paper
from reticent.core.record import Record
from reticent.core.scan import ScanEvidence
from reticent.data.dedup.near import near_originals
from reticent.scan.data.labelled_rows import LabelledRows, answer_of, context_of, has_labels
from reticent.scan.data.overriding_words import FOLDS, largest_override
from reticent.scan.data.word_runs import FEWEST_ROWS
from reticent.scan.scanner import scanner
from reticent.scan.suspect import Suspect

FEWEST_ANSWERS = max(FEWEST_ROWS, FOLDS)
"""Rows with nearly one answer that count as repeated."""


@scanner(
    name="repeated_answers",
    title="Answers that repeat with rare words",
    kind="data",
    null="made",
    needs=("data",),
    blind_to=(
        f"Answers that are planted in fewer than {FEWEST_ANSWERS} rows or in other words each time, and triggers that "
        "are no words: a topic, a style or a grammar."
    ),
    paper=Paper("arXiv:2107.06499"),
    order=31,
)
def repeated_answers(suspect: Suspect) -> Sequence[ScanEvidence]:
    """The run of words that brings a repeated answer against all else in the text, with its corrected p-value."""
    rows = rows_by_answer(suspect.data)
    if rows.labels < 2:
        return []
    return largest_override(rows, seed=suspect.seed, judged=range(1, rows.labels))


def rows_by_answer(records: Sequence[Record]) -> LabelledRows:
    """Rows whose label is the number of the near-duplicates that their answer belongs to; 0 for answers that hardly
    repeat.

    Raises:
        BadInput: no data, no answers, or answers that are labels.
        Underpowered: fewer than 40 rows.
    """
    if not records:
        raise BadInput("the data", "holds no rows", "Give some with --data.")
    answered = [record for record in records if answer_of(record)]
    if not answered:
        raise BadInput("the data", "has no answers, only texts", "Give prompts with completions, or chats.")
    if has_labels(records):
        raise BadInput("the data", "has labels for answers, which repeat by nature", "See overriding_words for them.")
    if len(answered) < 40:
        raise Underpowered(f"{len(answered)} rows", "are too few to tell a word from chance", "Give 40 or more.")
    original = near_originals([Record(id=record.id, text=answer_of(record)) for record in answered])
    root = np.arange(len(answered))
    for place, earlier in enumerate(original.tolist()):
        root[place] = place if earlier < 0 else root[earlier]
    counts = np.bincount(root, minlength=len(answered))
    often = [int(place) for place in np.flatnonzero(counts >= FEWEST_ANSWERS)]
    number = {place: label for label, place in enumerate(often, start=1)}
    label = np.array([number.get(int(place), 0) for place in root], dtype=np.intp)
    if (label > 0).all():
        label -= 1
    return LabelledRows(
        ids=tuple(record.id for record in answered),
        texts=tuple(context_of(record) for record in answered),
        label=label,
        labels=int(label.max()) + 1,
        left_out=len(records) - len(answered),
    )
