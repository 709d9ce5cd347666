# SPDX-License-Identifier: Apache-2.0
"""Synthetic texts from a file, the promise that lies beside them, and the refusal of texts that are private ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.core.stated_epsilon import StatedEpsilon
from reticent.data.readers.reader import BadRow, rows_of
from reticent.data.words import units
from reticent.report.synthesis_file import read_synthesis

COPIED, COVERED = 0.9, 0.5
"""A file is taken for private data where more than ``COPIED`` of its texts are word for word a record of one side, and
they are more than ``COVERED`` of the records of that side."""
FIELDS = ("text", "content", "output", "completion")


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
        """In words."""
        relation = self.relation.replace("_", " ")
        return f"ε = {self.epsilon:.2f} per {self.unit} at δ = {self.delta:g} ({relation}; {self.where})"


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticFile:
    """Synthetic texts and what is known of them.

    Args:
        texts: in their order; some may be empty.
        promise: None where none is on record.
        mechanism: that made them; empty where it is not on record.
        copies_of_members, copies_of_held_out: how many are word for word a record of that side.
    """

    texts: tuple[str, ...]
    promise: TextPromise | None
    mechanism: str
    copies_of_members: int
    copies_of_held_out: int


def read_texts(place: str) -> tuple[str, ...]:
    """The synthetic texts of a file: JSONL, CSV, Parquet and others, with a field ``text`` (or one of ``FIELDS``).

    Raises:
        BadInput: no such file, a row that cannot be read or has no text field, or no text that is not empty.
    """
    texts = tuple(_text(row) for row in rows_of(place))
    if not any(units(text) for text in texts):
        raise BadInput(place, "holds no text with a word in it", "Give the file of synthetic texts.")
    return texts


def _text(row: Any) -> str:
    if isinstance(row, BadRow):
        raise BadInput(row.place, row.why, row.fix)
    name = next((name for name in FIELDS if isinstance(row.fields.get(name), str)), None)
    if name is None:
        raise BadInput(
            row.place,
            f"has no text in it, only {', '.join(map(repr, row.fields)) or 'nothing'}",
            "Give rows with a field text.",
        )
    return str(row.fields[name])


def read_synthetic(place: str, records: Sequence[Record], membership: Membership) -> SyntheticFile:
    """Read synthetic texts, and refuse them where they are the private data.

    Args:
        place: the file.
        records: the private texts.
        membership: of the records.

    Raises:
        BadInput: see `read_texts`; or the file is the private data, with the overlap that was found.
    """
    texts = read_texts(place)
    cut = [tuple(units(text)) for text in texts]
    copies: dict[bool, int] = {}
    for side in (True, False):
        there = {
            tuple(units(record.plain)) for record, in_ in zip(records, membership.member, strict=True) if in_ == side
        }
        there.discard(())
        copied = [words for words in cut if words in there]
        copies[side] = len(copied)
        _refuse_private(place, len(copied), len(texts), len(set(copied)), len(there), side=side)
    promise, mechanism = read_promise(place)
    return SyntheticFile(
        texts=texts,
        promise=promise,
        mechanism=mechanism,
        copies_of_members=copies[True],
        copies_of_held_out=copies[False],
    )


def _refuse_private(place: str, copied: int, texts: int, distinct: int, records: int, *, side: bool) -> None:
    if copied > COPIED * texts and distinct > COVERED * records:
        whose = "that were trained on" if side else "that were held out"
        raise BadInput(
            place,
            f"is the private data: {copied} of {texts} texts are word for word records {whose}, and {distinct} of "
            f"these {records} records are there",
            "Give the synthetic texts. Texts that repeat all that they were made from need no audit.",
        )


def read_promise(place: str) -> tuple[TextPromise | None, str]:
    """The promise in the ``synthesis.json`` beside the file, and the mechanism; None and nothing where there is none.

    Raises:
        BadInput: that file is broken.
    """
    beside = RunFolder(root=Path(place).parent).synthesis
    if not beside.is_file():
        return None, ""
    results = read_synthesis(beside)
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
