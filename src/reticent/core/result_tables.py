# SPDX-License-Identifier: Apache-2.0
"""The numbers of results as tables: every list of rows that results hold, whole, for CSV files and data frames.

A field added to a row's dataclass is a column here without an edit. Text of records is left out (``metadata=PRIVATE``),
and so are the points of curves and histograms, which `reticent report --export` writes with their figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum
from functools import reduce
from typing import Any, Protocol, get_args, get_origin

from reticent.core.codec import is_union, parts, unmarked
from reticent.core.extraction_rows import Extraction
from reticent.core.finding import Estimate, Finding
from reticent.core.guarantee_audit import GuaranteeAudit
from reticent.core.section import Cell, Column, Mark, Section, Table, Words

FINDINGS = "findings"
"""Name of the table of findings."""


class HoldsRows(Protocol):
    """The part of `reticent.core.results.Results` that is read; Results makes its data frame from here."""

    @property
    def all_findings(self) -> tuple[Finding, ...]: ...
    @property
    def attacks(self) -> tuple[Any, ...]: ...
    @property
    def exposure(self) -> tuple[Any, ...]: ...
    @property
    def exposed(self) -> tuple[Any, ...]: ...
    @property
    def power(self) -> tuple[Any, ...]: ...
    @property
    def tests(self) -> tuple[Any, ...]: ...
    @property
    def promise(self) -> GuaranteeAudit | None: ...
    @property
    def extraction(self) -> Extraction | None: ...
    @property
    def sections(self) -> tuple[Section, ...]: ...


def tables(results: HoldsRows) -> list[Table]:
    """The findings first, then every list of rows that is not empty, then the tables of all sections."""
    promise, extraction = results.promise, results.extraction
    lists: dict[str, Sequence[Any]] = {
        "attacks": results.attacks,
        "exposure": results.exposure,
        "exposed": results.exposed,
        "power": results.power,
        "tests": results.tests,
        "promise-bounds": promise.bounds if promise else (),
        "promise-rates": promise.rates if promise else (),
        "promise-checks": promise.checks if promise else (),
        "extraction": extraction.rows if extraction else (),
    }
    tables_of_results = [_findings(results.all_findings), *(whole(name, rows) for name, rows in lists.items() if rows)]
    taken = {FINDINGS, *lists}
    for section in results.sections:
        for table in section.tables:
            tables_of_results.append(
                replace(table, name=f"{section.name}-{table.name}") if table.name in taken else table
            )
    return tables_of_results


def whole(name: str, rows: Sequence[Any]) -> Table:
    """A table with a column for each field of the rows, which are dataclasses of one kind."""
    columns: list[Column] = []
    kind_of_row: Any = type(rows[0])
    for field, hint in parts(kind_of_row):
        kind = _kind(hint)
        if kind and not field.metadata.get("private"):
            label = field.metadata.get("column", {}).get("label", field.name.replace("_", " "))
            columns.append(Column(name=field.name, label=label, kind=kind))
    cells = tuple(tuple(_cell(getattr(row, column.name)) for column in columns) for row in rows)
    return Table(name=name, title=name.replace("-", " "), columns=tuple(columns), rows=cells)


def flat(table: Table) -> tuple[list[str], list[list[Any]]]:
    """``(names, rows)`` of plain values: an estimate gives its value, ``_lo``, ``_hi`` and ``_n``; an end without a
    bound is infinite, what was not measured is None."""
    names: list[str] = []
    for column in table.columns:
        ends = (f"{column.name}_lo", f"{column.name}_hi", f"{column.name}_n") if column.kind == "estimate" else ()
        names += [column.name, *ends]
    rows = []
    for row in table.rows:
        values: list[Any] = []
        for column, cell in zip(table.columns, row, strict=True):
            if column.kind == "estimate":
                estimate = cell if isinstance(cell, Estimate) else None
                values += [estimate and estimate.value, estimate and estimate.lo, estimate and estimate.hi]
                values.append(estimate and estimate.n)
            else:
                values.append(cell.text if isinstance(cell, Words | Mark) else cell)
        rows.append(values)
    return names, rows


def numbers_of(table: Table) -> Iterator[dict[str, Any]]:
    """Every number of a table by itself: ``row`` (from 0), ``about`` (the first three texts of the row), ``level`` and
    ``attack`` where there are such columns, ``metric`` (the column) and the number with its interval and n."""
    for place, row in enumerate(table.rows):
        by_name = {column.name: cell for column, cell in zip(table.columns, row, strict=True)}
        texts = [_text(cell) for cell in row if isinstance(cell, str | Words)]
        named = {name: _text(by_name.get(name)) for name in ("level", "attack")}
        for column, cell in zip(table.columns, row, strict=True):
            if isinstance(cell, Estimate):
                number: dict[str, Any] = {"value": cell.value, "lo": cell.lo, "hi": cell.hi, "n": cell.n}
            elif isinstance(cell, int | float):
                number = {"value": float(cell), "lo": None, "hi": None, "n": None}
            else:
                continue
            about = " · ".join(text for text in texts[:3] if text)
            yield {"row": place, "about": about, **named, "metric": column.name, **number}


def _findings(findings: Sequence[Finding]) -> Table:
    """Flat as in ``results.json``: the columns that other tools read."""
    columns: list[Column] = []
    paths: list[tuple[str, ...]] = []
    for field, hint in parts(Finding):
        is_flat = field.metadata.get("flat")
        for inner, its in parts(unmarked(hint)[0]) if is_flat else ((field, hint),):
            if _kind(its):
                columns.append(Column(name=inner.name, label=inner.name.replace("_", " "), kind=_kind(its)))
                paths.append((field.name, inner.name) if is_flat else (field.name,))
    rows = tuple(tuple(_cell(reduce(getattr, path, finding)) for path in paths) for finding in findings)
    return Table(name=FINDINGS, title="Findings", columns=tuple(columns), rows=rows)


def _kind(hint: Any) -> str:
    """Of a column whose cells are of this type; empty: they are no cells."""
    bare = unmarked(hint)[0]
    if is_union(bare):
        bare = unmarked(next(kind for kind in get_args(bare) if kind is not type(None)))[0]
    if get_origin(bare) is tuple:
        return "text" if unmarked(get_args(bare)[0])[0] is str else ""
    if isinstance(bare, type) and issubclass(bare, str):
        return "text"
    return {Estimate: "estimate", bool: "text", int: "count", float: "number"}.get(bare, "")


def _cell(value: Any) -> Cell:
    """Lists of texts as one text, truth as a word."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return str(value) if isinstance(value, Enum) else value


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Words) else cell if isinstance(cell, str) else ""
