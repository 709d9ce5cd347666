# SPDX-License-Identifier: Apache-2.0
"""Every number of the results as CSV files, one a table, for spreadsheets and statistics packages.

No text of records is in them, also where the results hold some. An estimate is four columns: its value, ``_lo``,
``_hi`` (``inf`` or ``-inf`` where it is open) and ``_n``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reticent.core.atomic import replacing_together
from reticent.core.errors import Unusable
from reticent.core.outputs import file_to_write, hash_of, listed, marked
from reticent.core.result_tables import flat, tables
from reticent.core.results import Results
from reticent.report.heading import model_name
from reticent.report.results_file import digest

FORMAT = "reticent.tables"
LIST = "tables.json"
"""Names the tables, the model, the results, and the hash of every file: CSV has no room for a mark of its own."""
CARD = marked("list of tables", f'"format": "{FORMAT}"')


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
    card = folder / LIST
    csv_tables = tables(results)
    texts = {folder / f"{table.name}.csv": encoded(csv_text(*flat(table))) for table in csv_tables}
    file_to_write(card, CARD, flag="csv", inputs=inputs)
    for path in texts:
        file_to_write(path, listed(card, "file of numbers"), inputs=inputs)
    make_folder(folder)
    there = sorted(path for path in folder.glob("*.csv") if listed(card, "file of numbers").is_ours(path))
    content = {
        "format": FORMAT,
        "model": model_name(results),
        "results_sha256": digest(results),
        "tables": [{"name": table.name, "title": table.title, "rows": len(table.rows)} for table in csv_tables],
        "files": {path.name: hashlib.sha256(text).hexdigest() for path, text in texts.items()},
        "before": {path.name: hash_of(path) for path in there},
    }
    files = {card: encoded(json.dumps(content, indent=1, ensure_ascii=False) + "\n"), **texts}
    with replacing_together([*files], public=[*files]) as temporary:
        for path, text in files.items():
            temporary[path].write_bytes(text)
    return list(texts)


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


def encoded(text: str) -> bytes:
    """UTF-8, whatever the text holds."""
    return text.encode("utf-8", errors="backslashreplace")


def make_folder(folder: Path) -> None:
    """Make the folder if it is not there.

    Raises:
        Unusable: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(str(folder)[:200], f"cannot be used ({error.strerror})", "Choose another folder.") from error


def _value(cell: Any) -> Any:
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{cell}"
    return cell
