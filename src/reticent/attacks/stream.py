# SPDX-License-Identifier: Apache-2.0
"""Aligned reading of several token tables, a few thousand rows at a time, with proof that they belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from reticent.core.errors import BadInput
from reticent.core.table import ROW_GROUP, TokenTable, concat, iter_tables, read_table

AGAIN = "Score the same records again for all tables."

PORTION = 2 * ROW_GROUP
"""Rows of one table that are worked on at once; attacks are slow on fewer, memory grows with more."""

PARTNERS = {"table": "ref", "known": "known_ref"}
"""Tables of two models on the same text; of a variant ``x`` the partner is ``x_ref``."""


def record_count(paths: Mapping[str, Path], copies: Mapping[str, int]) -> int:
    """How many records the tables are about.

    Args:
        paths: the files.
        copies: rows for each record in each file.

    Raises:
        BadInput: they are about different numbers of records.
    """
    rows = {name: pq.read_metadata(path).num_rows for name, path in paths.items()}
    counts = {name: number / copies[name] for name, number in rows.items()}
    if len(set(counts.values())) != 1 or not next(iter(counts.values())).is_integer():
        given = ", ".join(f"{name} has {rows[name]:,} rows of {copies[name]} a record" for name in rows)
        raise BadInput(given, "the tables are not about the same records", AGAIN)
    return int(next(iter(counts.values())))


def aligned(
    paths: Mapping[str, Path], columns: Mapping[str, Set[str]], copies: Mapping[str, int]
) -> Iterator[dict[str, TokenTable]]:
    """The tables narrowed to trained tokens, portion by portion; each portion is the same records in every table.

    A portion has at most ``ROW_GROUP`` records and, where variants have many copies, ``PORTION`` rows of any table.

    Raises:
        BadInput: the tables are about different records, or two models' tables of the same text have other tokens.
    """
    count = record_count(paths, copies)
    step = min(ROW_GROUP, max(1, PORTION // max(copies.values())))
    rows = {name: _Rows(path, _with_ids(name, paths, columns)) for name, path in paths.items()}
    for start in range(0, count, step):
        size = min(step, count - start)
        portion = {name: reader.take(size * copies[name]) for name, reader in rows.items()}
        _check(portion, copies)
        yield {name: table.trained() for name, table in portion.items()}


def population(paths: Mapping[str, Path], columns: Mapping[str, Set[str]]) -> dict[str, TokenTable]:
    """Whole tables of the attacker's known non-members, without texts that have no trained token.

    Raises:
        BadInput: the tables are about different texts, or no text is left.
    """
    if not paths:
        return {}
    tables = {name: read_table(path, columns=sorted(_with_ids(name, paths, columns))) for name, path in paths.items()}
    if len({len(table) for table in tables.values()}) > 1:
        raise BadInput("known, known_ref", "the tables are not about the same records", AGAIN)
    _check(tables, dict.fromkeys(tables, 1))
    tables = {name: table.trained() for name, table in tables.items()}
    nonempty = np.logical_and.reduce([table.lengths > 0 for table in tables.values()])
    if not nonempty.any():
        raise BadInput("the known non-members", "none has a trained token", "Set aside more held-out records.")
    return {name: table.take(nonempty) for name, table in tables.items()}


def _partner(name: str) -> str:
    return PARTNERS.get(name, f"{name}_ref")


def _with_ids(name: str, names: Mapping[str, Path], columns: Mapping[str, Set[str]]) -> Set[str]:
    """The columns to read: token ids too where another table must have the same."""
    paired = _partner(name) in names or any(_partner(other) == name for other in names)
    return columns[name] | ({"token_id"} if paired else set())


def _check(tables: Mapping[str, TokenTable], copies: Mapping[str, int]) -> None:
    first, first_table = next(iter(tables.items()))
    ids = first_table.record_id[:: copies[first]]
    for name, table in tables.items():
        expected = np.repeat(ids, copies[name])
        wrong = np.flatnonzero(table.record_id != expected)
        if wrong.size:
            actual, wanted = table.record_id[wrong[0]], expected[wrong[0]]
            raise BadInput(f"table {name!r}", f"has record {actual!r} where {first!r} has {wanted!r}", AGAIN)
    for name, table in tables.items():
        other = tables.get(_partner(name))
        if other is not None and not _same_tokens(table, other):
            raise BadInput(
                f"tables {name!r} and {_partner(name)!r}",
                "were made from other tokens or masks of the same records",
                "Both models need the same tokenizer; score them with the same options.",
            )


def _same_tokens(table: TokenTable, other: TokenTable) -> bool:
    return np.array_equal(table.offsets, other.offsets) and all(
        np.array_equal(table[column], other[column]) for column in ("token_id", "loss_mask")
    )


class _Rows:
    """Rows of a file in portions of any size; holds one row group beyond what was asked for."""

    def __init__(self, path: Path, columns: Set[str]) -> None:
        self._groups = iter_tables(path, columns=sorted(columns))
        self._held: TokenTable | None = None

    def take(self, count: int) -> TokenTable:
        """The next ``count`` rows; there must be as many."""
        parts: list[TokenTable] = []
        while count:
            held = self._held if self._held is not None else next(self._groups)
            parts.append(_between(held, 0, min(count, len(held))))
            count -= len(parts[-1])
            self._held = _between(held, len(parts[-1]), len(held)) if len(parts[-1]) < len(held) else None
        return parts[0] if len(parts) == 1 else concat(parts)


def _between(table: TokenTable, start: int, stop: int) -> TokenTable:
    """Rows ``start`` to ``stop`` (exclusive), as views."""
    if start == 0 and stop == len(table):
        return table
    offsets = table.offsets[start : stop + 1]
    return TokenTable(
        rows={name: column[start:stop] for name, column in table.rows.items()},
        tokens={name: column[offsets[0] : offsets[-1]] for name, column in table.tokens.items()},
        offsets=offsets - offsets[0],
    )
