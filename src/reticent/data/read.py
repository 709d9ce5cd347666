# SPDX-License-Identifier: Apache-2.0
"""Read records from any format: files, folders, hub ids. Bad rows stop it, or are counted and listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reticent.core import validate
from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.record import Record, fingerprint
from reticent.data.fields import BadField, Fields, complete, complete_later, named
from reticent.data.readers.reader import BadRow, rows_of


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What was read.

    Args:
        records: in the order of the source, with unique ids.
        n_rejected: bad rows that were left out.
        source: as the user named it.
        fields: which fields were taken for what.
        fingerprint: SHA-256 over ids, users and contents.
    """

    records: tuple[Record, ...]
    n_rejected: int
    source: str
    fields: Fields
    fingerprint: str


def read(
    source: str | Path,
    *,
    text_field: str | None = None,
    prompt_field: str | None = None,
    completion_field: str | None = None,
    messages_field: str | None = None,
    user_field: str | None = None,
    id_field: str | None = None,
    spans_field: str | None = None,
    id_prefix: str = "r",
    on_bad_row: str = "error",
    rejects: str | Path | None = None,
) -> Dataset:
    """Read records from a JSONL, JSON, CSV, Parquet or mail file, a dataset folder or a hub id.

    Fields that are not named are looked for under their usual names (``text``; ``prompt`` + ``completion``;
    ``instruction`` + ``output``; ``messages``; …) in the first row, ``user`` and ``spans`` in the first that has them.
    Without ``id_field`` the rows are numbered from 1, bad rows counted, so that mending or skipping a row renames no
    other.

    Args:
        source: path or hub id; see `reticent.data.readers`.
        text_field, prompt_field, completion_field: names of fields; several, separated by commas, are joined by line
            breaks.
        messages_field: a chat.
        user_field: who a record belongs to; when named, a row without a user is bad.
        id_field: unique id.
        spans_field: sensitive stretches of a record's text; when named, a row without it is bad.
        id_prefix: what numbered ids begin with; two sources that are used together need two.
        on_bad_row: ``"error"`` stops at the first bad row; ``"skip"`` counts it.
        rejects: JSONL file for the place and reason (not the text) of every row that was skipped.

    Raises:
        BadInput: no such source, an unknown format, no usable row, or a bad row; says where, why and how to mend it.
    """
    validate.one_of(("error", "skip"), on_bad_row=on_bad_row)
    fields = named(
        text_field=text_field,
        prompt_field=prompt_field,
        completion_field=completion_field,
        messages_field=messages_field,
        user_field=user_field,
        id_field=id_field,
        spans_field=spans_field,
    )
    reading = _Reading(source=str(source), fields=fields, id_prefix=id_prefix)
    records: list[Record] = []
    bad: list[BadRow] = []
    for found in reading.records():
        if isinstance(found, Record):
            records.append(found)
        elif on_bad_row == "error":
            raise BadInput(found.place, found.why, found.fix)
        else:
            bad.append(found)
    if rejects is not None:
        lines = (json.dumps({"place": row.place, "reason": row.why}, ensure_ascii=False) for row in bad)
        write_text(rejects, "".join(f"{line}\n" for line in lines))
    if not records:
        first = f"; the first: {bad[0].place} {bad[0].why}" if bad else ""
        raise BadInput(str(source), f"has no usable row{first}", bad[0].fix if bad else "Give at least one record.")
    return Dataset(
        records=tuple(records),
        n_rejected=len(bad),
        source=str(source),
        fields=reading.fields,
        fingerprint=fingerprint(records),
    )


class _Reading:
    """One pass over a source: the first good row settles the shape, and ids are remembered."""

    def __init__(self, *, source: str, fields: Fields, id_prefix: str) -> None:
        self.source, self.fields, self.id_prefix = source, fields, id_prefix
        self._settled = False
        self._place: dict[str, str] = {}

    def records(self) -> Iterator[Record | BadRow]:
        for number, row in enumerate(rows_of(self.source), start=1):
            if isinstance(row, BadRow):
                yield row
                continue
            if not self._settled:
                self.fields, self._settled = complete(self.fields, self.source, row.fields), True
            elif self.fields.user is None or self.fields.spans is None:
                self.fields = complete_later(self.fields, row.fields)
            try:
                record = self.fields.record(row.fields, f"{self.id_prefix}{number:06d}")
            except BadField as error:
                yield BadRow(place=row.place, why=error.why, fix=error.fix)
                continue
            if record.id in self._place:
                why = f"the id {record.id!r} was already used at {self._place[record.id]}"
                yield BadRow(place=row.place, why=why, fix="Give each record its own id, or leave --id_field out.")
                continue
            self._place[record.id] = row.place
            yield record
