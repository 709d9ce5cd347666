# SPDX-License-Identifier: Apache-2.0
"""Rows that are in memory already: a list of texts or mappings, a pandas DataFrame, a data set of Hugging Face."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reticent.core.errors import BadInput
from reticent.data.readers.reader import InputRow

NAME = "rows in memory"


def rows_in_memory(rows: Any) -> Iterator[InputRow]:
    """The rows with their fields; a plain text has the one field ``text``.

    Args:
        rows: an iterable of texts or of mappings, or anything with ``to_dict("records")`` (pandas). It is read once.

    Raises:
        BadInput: it cannot be iterated, or a row is neither a text nor a mapping.

    >>> [row.fields for row in rows_in_memory(["a letter", {"text": "a note", "user": "ana"}])]
    [{'text': 'a letter'}, {'text': 'a note', 'user': 'ana'}]
    """
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        rows = rows.astype(object).where(rows.notna(), None).to_dict("records")
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise BadInput(
            f"data of type {type(rows).__name__}",
            "is no sequence of rows",
            "Give a list of texts, a list of dicts, a pandas DataFrame, a datasets.Dataset, or the path of a file.",
        )
    for number, row in enumerate(rows):
        place = f"{NAME}:{number}"
        if isinstance(row, str):
            yield InputRow(place=place, fields={"text": row})
        elif isinstance(row, Mapping):
            yield InputRow(place=place, fields=dict(row))
        else:
            raise BadInput(place, f"is of type {type(row).__name__}", "Give texts, or mappings from field to value.")
