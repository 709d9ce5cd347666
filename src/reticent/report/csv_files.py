# SPDX-License-Identifier: Apache-2.0
"""Every number of the results as CSV files, one a table, for spreadsheets and statistics packages.

No text of records is in them, also where the results hold some. An estimate is four columns: its value, ``_lo``,
``_hi`` (``inf`` or ``-inf`` where it is open) and ``_n``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reticent.core.result_tables import flat, tables
from reticent.core.results import Results
from reticent.report.listed_files import FileList, encoded, write_listed

LIST = FileList(name="tables.json", format="reticent.tables", title="list of tables", flag="csv")
"""Names the tables: CSV has no room for a mark of its own."""


def write_csv(
    folder: str | Path, results: Results, *, inputs: Mapping[str, str | Path | None] | None = None
) -> list[Path]:
    """Write ``findings.csv``, a CSV file for every other table, and ``tables.json``, all or nothing; gives the paths of
    the CSV files.

    Args:
        folder: is made if it is not there.
        results: whose numbers.
        inputs: what must not be written over, by what it is.

    Raises:
        BadInput: the folder is a file, or one of these names is there and is not what this wrote.
        Unusable: it cannot be written to.
    """
    folder = Path(folder)
    csv_tables = tables(results)
    texts = {f"{table.name}.csv": encoded(csv_text(*flat(table))) for table in csv_tables}
    rows = [{"name": table.name, "title": table.title, "rows": len(table.rows)} for table in csv_tables]
    write_listed(folder, texts, results, by=LIST, about={"tables": rows}, inputs=inputs)
    return [folder / name for name in texts]


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """CSV with a header, full digits. Words that a spreadsheet would compute are quoted, None is empty.

    >>> csv_text(("a", "b"), [("=1+1", 0.1), (None, float("inf"))])
    "a,b\\n'=1+1,0.1\\n,inf\\n"
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_value(cell) for cell in row] for row in rows])
    return out.getvalue()


def _value(cell: Any) -> Any:
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{cell}"
    return cell
