# SPDX-License-Identifier: Apache-2.0
"""Section: one kind of evidence in the results, as findings and tables that every reader of them understands.

The page, the console, the gate, the CSV files and the schema read sections and name none, so that a new kind of
evidence (unlearning, backdoors, federation) is shown and gated without an edit of theirs. No private text belongs here:
what stands in a cell is written to the page and to CSV files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Annotated, Any

from reticent.core.field_types import OneOf
from reticent.core.finding import Estimate, Finding

COLUMN_KINDS = ("text", "count", "number", "share", "estimate", "link", "paper", "mark", "group")
NAME = re.compile(r"[a-z][a-z0-9-]*")
"""Names become anchors, files and templates."""
ADDRESS = re.compile(r"https://[^\s\"'<>]+|#[a-z][a-z0-9-]*")


PRIVATE = {"private": True}
"""``metadata`` of a field that can hold text of records: it is written to no CSV file."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """A cell of text with more than the text.

    Args:
        text: itself.
        note: beside it, in small letters.
        below: on a line below it, in small letters.
        address: where it leads: ``https://…``, or ``#anchor`` of the page; empty: nowhere.
    """

    text: str
    note: str = ""
    below: str = ""
    address: str = ""

    def __post_init__(self) -> None:
        if self.address and not ADDRESS.fullmatch(self.address):
            raise ValueError(f"address {self.address!r} is neither https:// nor an anchor")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A cell that is to be seen at once, such as a leak, or a quiet word.

    Args:
        text: the word.
        raised: whether it is to be seen at once.
    """

    text: str
    raised: bool = True


Cell = Estimate | Words | Mark | int | float | str | None
"""None: nothing was measured."""

_FITS: dict[str, tuple[type, ...]] = {
    "text": (str, Words),
    "group": (str, Words),
    "link": (Words,),
    "paper": (str,),
    "count": (int,),
    "number": (int, float),
    "share": (int, float),
    "estimate": (Estimate,),
    "mark": (Mark,),
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Args:
        name: in CSV files; letters, digits and underscores.
        label: in the page's heading.
        kind: of its cells. ``"text"``; ``"count"``: a whole number; ``"number"``; ``"share"``: from 0 to 1, shown in
            per cent; ``"estimate"``: with its interval; ``"link"``; ``"paper"``: an id such as ``arXiv:2112.03570``;
            ``"mark"``; ``"group"``: rows that follow each other with the same text stand under one heading.
        metric: of the estimates, which says whether they are shown in per cent (`reticent.core.metrics`).
        about: what it is, for whoever points at the heading; empty: nothing more.
        unit: whether the estimates' unit is shown in each cell.
    """

    name: str
    label: str
    kind: Annotated[str, OneOf(*COLUMN_KINDS)] = "text"
    metric: str = ""
    about: str = ""
    unit: bool = True

    def __post_init__(self) -> None:
        if self.kind not in COLUMN_KINDS:
            raise ValueError(f"kind {self.kind!r} of column {self.name!r} is not one of {COLUMN_KINDS}")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"the name {self.name!r} of a column is not of lower-case letters, digits and _")


def column(label: str, kind: str = "estimate", *, metric: str = "", unit: bool = True) -> dict[str, Any]:
    """``metadata`` of a field of a row's dataclass that is a column of the report; see `columns_of`."""
    return {"column": {"label": label, "kind": kind, "metric": metric, "unit": unit}}


def columns_of(kind: type) -> tuple[Column, ...]:
    """The columns that a dataclass of rows declares in its fields, in their order."""
    declared = [(field.name, field.metadata["column"]) for field in fields(kind) if "column" in field.metadata]
    return tuple(Column(name=name, **about) for name, about in declared)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table whose columns say what is in them.

    Args:
        name: unique among the tables of the results; names the CSV file.
        title: what a screen reader announces, and what stands over the table.
        columns: the first that is no ``"group"`` heads each row.
        rows: a cell a column; None where there is nothing.
        caption: below the table: how to read it.
        folded: whether the page shows it only on request.

    Raises:
        ValueError: a row has another length, a cell is not of its column's kind, or a name cannot be one.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"the name {self.name!r} of a table is not of lower-case letters, digits and hyphens")
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"table {self.name!r} has two columns of one name: {names}")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.name!r} has {len(self.columns)} columns and a row of {len(row)} cells")
            for column, cell in zip(self.columns, row, strict=True):
                fits = cell is None or (isinstance(cell, _FITS[column.kind]) and not isinstance(cell, bool))
                if not fits:
                    raise ValueError(
                        f"column {column.name!r} of table {self.name!r} is of kind {column.kind!r}, got {cell!r}"
                    )

    @property
    def groups(self) -> tuple[tuple[Cell, tuple[tuple[Cell, ...], ...]], ...]:
        """``(heading, rows without it)``: rows that follow each other with an equal cell in the ``"group"`` column;
        one group without a heading where there is no such column."""
        place = next((i for i, column in enumerate(self.columns) if column.kind == "group"), None)
        if place is None or not self.rows:
            return ((None, self.rows),) if self.rows else ()
        starts = [0, *(i for i, (a, b) in enumerate(pairwise(self.rows), 1) if a[place] != b[place]), len(self.rows)]
        return tuple(
            (self.rows[start][place], tuple((*row[:place], *row[place + 1 :]) for row in self.rows[start:end]))
            for start, end in pairwise(starts)
        )

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns of the cells in ``groups``."""
        first = next((column for column in self.columns if column.kind == "group"), None)
        return tuple(column for column in self.columns if column is not first)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One kind of evidence.

    Args:
        name: anchor of its part of the page; a template ``sections/<name>.html`` of `reticent.report`, where there is
            one, draws it instead of the usual one.
        title: its heading.
        lede: what it is about, in a sentence or two.
        findings: what it found; they count for the verdict, the gate and the console as any others.
        tables: its numbers.
        notes: caveats, and what was left out and why.
        needs_membership: whether it says nothing where members and held-out differ without any model.
    """

    name: str
    title: str
    lede: str = ""
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    needs_membership: bool = True

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"the name {self.name!r} of a section is not of lower-case letters, digits and hyphens")
