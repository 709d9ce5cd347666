# SPDX-License-Identifier: Apache-2.0
"""Synthetic texts from a file, the promise that lies beside them, and the refusal of texts that are private ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.auditing.synthetic.private_overlap import ONE_IN, Overlap, overlap
from reticent.core.composed_epsilon import rounded_up
from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.outputs import hash_of
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.core.stated_epsilon import StatedEpsilon
from reticent.data.readers.reader import BadRow, rows_of
from reticent.data.words import units
from reticent.report.synthesis_file import DIGEST, read_synthesis

COPIED, COVERED = 0.9, 0.5
"""A file is taken for private data where more than ``COPIED`` of its texts are records of one side, or of both, and
they are more than ``COVERED`` of these records."""
MOST, FEWEST = 0.95, 10
"""Where nobody knows who made the texts it is taken for that, too, where it holds more than ``MOST`` of the records of
a side whatever else it holds, or where more than ``COPIED`` of its texts are records or parts of records, and
``FEWEST`` of them differ: texts of some words, so that no chance makes them. So it is where that share of its texts are
records but for a few words, and as many of the records are there as ``COVERED`` says."""
EACH = 0.1
"""Where so many of the texts are records of each side, they are held against both together."""
FIELDS = ("text", "content", "output", "completion")
NAMES = ("id", "user", "topic", "label")
"""Fields that are no part of a text."""
WHOSE = {True: "that were trained on", False: "that were held out"}
"""Records of members and of others, in words."""


@dataclass(frozen=True, kw_only=True)
class TextPromise:
    """The promise that synthetic texts carry.

    Args:
        epsilon, delta: at which.
        unit: ``"record"`` or ``"user"``.
        relation: the data sets that cannot be told apart.
        where: the file that says it.
    """

    epsilon: float
    delta: float
    unit: str
    relation: str
    where: str

    @property
    def stated(self) -> StatedEpsilon:
        """The same without the file."""
        return StatedEpsilon(epsilon=self.epsilon, delta=self.delta, unit=self.unit, relation=self.relation)

    @property
    def sentence(self) -> str:
        """In words; ε is rounded up."""
        relation = self.relation.replace("_", " ")
        return f"ε = {rounded_up(self.epsilon)} per {self.unit} at δ = {self.delta:g} ({relation}; {self.where})"


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticFile:
    """Synthetic texts and what is known of them.

    Args:
        texts: in their order; some may be empty.
        promise: None where none is on record.
        mechanism: that made them; empty where it is not on record.
        copies_of_members, copies_of_held_out: how many are word for word a record of that side, or what is trained on
            of one.
    """

    texts: tuple[str, ...]
    promise: TextPromise | None
    mechanism: str
    copies_of_members: int
    copies_of_held_out: int


@dataclass(frozen=True, kw_only=True)
class TextRow:
    """A row of a file.

    Args:
        text: the synthetic text.
        fields: all of its texts, such as a prompt and a completion, with a blank between two.
    """

    text: str
    fields: str


def read_rows(place: str) -> tuple[TextRow, ...]:
    """The rows of a file: JSONL, CSV, Parquet and others, with a field ``text`` (or one of ``FIELDS``).

    Raises:
        BadInput: no such file, a row that cannot be read or has no text field, or no text that is not empty.
    """
    rows = tuple(_row(row) for row in rows_of(place))
    if not any(units(row.text) for row in rows):
        raise BadInput(place, "holds no text with a word in it", "Give the file of synthetic texts.")
    return rows


def _row(row: Any) -> TextRow:
    if isinstance(row, BadRow):
        raise BadInput(row.place, row.why, row.fix)
    name = next((name for name in FIELDS if isinstance(row.fields.get(name), str)), None)
    if name is None:
        raise BadInput(
            row.place,
            f"has no text in it, only {', '.join(map(repr, row.fields)) or 'nothing'}",
            "Give rows with a field text.",
        )
    texts = [value for key, value in row.fields.items() if isinstance(value, str) and key not in NAMES]
    return TextRow(text=str(row.fields[name]), fields=" ".join(texts))


def read_synthetic(place: str, records: Sequence[Record], membership: Membership) -> SyntheticFile:
    """Read synthetic texts, and refuse them where they are the private data.

    Args:
        place: the file.
        records: the private texts.
        membership: of the records.

    Raises:
        BadInput: see `read_rows`; or the file is the private data, with the overlap that was there.
    """
    rows = read_rows(place)
    promise, mechanism = read_promise(place)
    ways = [(row.text, row.fields) for row in rows]
    sides = {
        side: overlap(ways, [record for record, in_ in zip(records, membership.member, strict=True) if in_ == side])
        for side in WHOSE
    }
    copies = {side: there.whole for side, there in sides.items()}
    if min(there.whole + there.near for there in sides.values()) > EACH * len(rows):
        _refuse_private(place, overlap(ways, records), " or ".join(WHOSE.values()), known=bool(mechanism))
    for side, there in sides.items():
        _refuse_private(place, there, WHOSE[side], known=bool(mechanism))
    return SyntheticFile(
        texts=tuple(row.text for row in rows),
        promise=promise,
        mechanism=mechanism,
        copies_of_members=copies[True],
        copies_of_held_out=copies[False],
    )


def _refuse_private(place: str, there: Overlap, whose: str, *, known: bool) -> None:
    """Refuse a file that is private data.

    Args:
        place: the file.
        there: its overlap with the records.
        whose: which records these are.
        known: it is on record which mechanism made the texts: then what they repeat is for the audit to find.
    """
    is_data = there.whole > COPIED * there.texts and there.found > COVERED * there.records
    is_piece = there.share > COPIED and there.distinct >= FEWEST
    is_hidden = there.found_long > MOST * there.long and there.found_long >= FEWEST
    is_near = there.near + there.whole > COPIED * there.texts and there.found_near > COVERED * there.wordy
    is_changed = bool(there.near) and is_near and there.found_near >= FEWEST
    if is_data or (not known and (is_piece or is_hidden or is_changed)):
        parts = f", {there.parts} are a part of one" if there.parts else ""
        parts += f", {there.near} are one but for a word in {ONE_IN}" if there.near else ""
        raise BadInput(
            place,
            f"is the private data: {there.whole} of {there.texts} texts are word for word records {whose}{parts}, and "
            f"{there.found} of these {there.records} records are there",
            "Give the synthetic texts. Texts that repeat all that they were made from need no audit.",
        )


def read_promise(place: str) -> tuple[TextPromise | None, str]:
    """The promise in the ``synthesis.json`` beside the file, and the mechanism; None and nothing where there is none,
    or where the file has another name than the one that was made: what else lies there carries no promise.

    Raises:
        BadInput: that file is broken, or the texts are no longer those that were made.
    """
    run = RunFolder(root=Path(place).parent)
    beside = run.synthesis
    if not beside.is_file() or Path(place).name != run.synthetic.name:
        return None, ""
    results = read_synthesis(beside)
    made = results.provenance.get(DIGEST)
    if made is not None and made != hash_of(Path(place)):
        raise BadInput(
            place,
            f"was changed since {beside.name} beside it was written, so nothing that stands there holds for it: a "
            "choice among texts, or a word in them, may tell what no promise covers",
            "Put back the file that was made, or move this one to a folder of its own and name the records "
            "(--members FILE --held_out FILE).",
        )
    if results.epsilon is None:
        return None, results.mechanism
    promise = TextPromise(
        epsilon=results.epsilon,
        delta=float(results.delta or 0.0),
        unit=results.unit,
        relation=results.relation,
        where=beside.name,
    )
    return promise, results.mechanism
