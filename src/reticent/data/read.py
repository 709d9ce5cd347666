# SPDX-License-Identifier: Apache-2.0
"""Read records from any format: files, folders, hub ids. Bad rows stop it, or are counted and listed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from reticent.core import validate
from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.record import Record, fingerprint
from reticent.data.fields import USUAL_SPANS, BadField, Fields, complete, complete_later, look_like_spans, named
from reticent.data.ids import Naming, tells_of_spans
from reticent.data.mapped_records import MappedRecords, RecordSink
from reticent.data.readers.reader import BadRow, InputRow, rows_of
from reticent.data.rows_in_memory import NAME, rows_in_memory

Check: TypeAlias = Callable[[Record], None]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Records read from a source.

    Args:
        records: in the order of the source, with unique ids: a tuple, or of large data what `data.mapped_records` has.
        n_rejected: bad rows that were left out.
        source: as the user named it.
        fields: which fields were taken for what.
        fingerprint: SHA-256 over ids, users and contents.

    Examples:
        >>> import pathlib
        >>> _ = pathlib.Path("notes.jsonl").write_text('{"text": "hello", "user": "ana"}')
        >>> dataset = read("notes.jsonl")
        >>> len(dataset.records), dataset.n_rejected, dataset.fields.user
        (1, 0, 'user')
    """

    records: Sequence[Record]
    n_rejected: int
    source: str
    fields: Fields
    fingerprint: str


def read(
    source: Any,
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
    each_alone: bool = False,
    hide_spans: bool = False,
    check: Check | None = None,
) -> Dataset:
    """Read records from a JSONL, JSON, CSV, Parquet or mail file, a dataset folder, a hub id, or rows in memory.

    Fields that are not named are looked for under their usual names (``text``; ``prompt`` + ``completion``;
    ``instruction`` + ``output``; ``messages``; …) in the first row, ``user`` and ``spans`` in the first that has them.
    Without ``id_field`` ids are made of user and text (`reticent.data.ids`), so that adding, mending or skipping a row
    renames no other.

    Args:
        source: path or hub id (see `reticent.data.readers`), or a list of texts or mappings, a pandas DataFrame or a
            ``datasets.Dataset``.
        text_field, prompt_field, completion_field: names of fields; several, separated by commas, are joined by line
            breaks.
        messages_field: a chat.
        user_field: who a record belongs to; when named, a row without a user is bad.
        id_field: unique id. It must not count rows where coins shall not move when a row goes.
        spans_field: sensitive stretches of a record's text; when named, a row without it is bad.
        id_prefix: what ids that are made begin with; two sources that are used together need two.
        on_bad_row: ``"error"`` stops at the first bad row; ``"skip"`` counts it.
        rejects: JSONL file for the place and reason (not the text) of every row that was skipped.
        each_alone: for private training: refuse a row that by itself would be read by other fields than the first rows
            are, for then one row decides how all others are read. Fields that are named are the same for all.
        hide_spans: what spans hold does not enter ids that are made, here or earlier (by `reticent prepare`).
        check: raises BadField for a record that cannot be used, from what is in that record alone; its row is then bad.

    Raises:
        BadInput: no such source, an unknown format, no usable row, or a bad row; says where, why and how to mend it.

    Examples:
        >>> dataset = read([{"body": "Dear shop", "sender": "ana"}], text_field="body", user_field="sender")
        >>> [(record.text, record.user) for record in dataset.records], dataset.n_rejected
        ([('Dear shop', 'ana')], 0)
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
    naming = Naming(id_prefix, hide_spans=hide_spans)
    place, rows = _rows(source)
    reading = _Reading(rows=rows, source=place, fields=fields, naming=naming, each_alone=each_alone, check=check)
    sink = RecordSink()
    bad: list[BadRow] = []
    for parsed in reading.records():
        if isinstance(parsed, Record):
            sink.add(parsed)
        elif on_bad_row == "error":
            raise BadInput(parsed.place, parsed.why, parsed.fix)
        else:
            bad.append(parsed)
    records = sink.records()
    _account(bad, records, place, rejects)
    return Dataset(
        records=records if isinstance(records, MappedRecords) else tuple(records),
        n_rejected=len(bad),
        source=place,
        fields=reading.fields,
        fingerprint=fingerprint(records),
    )


def _rows(source: Any) -> tuple[str, Iterator[InputRow | BadRow]]:
    """How the source is called, and its rows."""
    if isinstance(source, str | Path):
        return str(source), rows_of(str(source))
    return NAME, rows_in_memory(source)


def _account(bad: Sequence[BadRow], records: Sequence[Record], source: str, rejects: str | Path | None) -> None:
    """List the rows that were skipped, and refuse a source without a usable one."""
    if rejects is not None:
        lines = (json.dumps({"place": row.place, "reason": row.why}, ensure_ascii=False) for row in bad)
        write_text(rejects, "".join(f"{line}\n" for line in lines))
    if not records:
        first = f"; the first: {bad[0].place} {bad[0].why}" if bad else ""
        raise BadInput(source, f"has no usable row{first}", bad[0].fix if bad else "Give at least one record.")


class _Reading:
    """One pass over a source: the first good row settles the shape, and ids are remembered."""

    def __init__(
        self,
        *,
        rows: Iterator[InputRow | BadRow],
        source: str,
        fields: Fields,
        naming: Naming,
        each_alone: bool,
        check: Check | None = None,
    ) -> None:
        self.rows = rows
        self.check = check
        self.source, self.named, self.fields, self.naming = source, fields, fields, naming
        self.each_alone = each_alone
        self._settled, self._no_spans = False, ""
        self._forms: set[frozenset[tuple[str, bool, bool, bool]]] = set()
        self._place: dict[str, str] = {}

    def records(self) -> Iterator[Record | BadRow]:
        for row in self.rows:
            if isinstance(row, BadRow):
                yield row
                continue
            if not self._settled:
                self.fields, self._settled = complete(self.fields, self.source, row.fields), True
            elif self.fields.user is None or self.fields.spans is None:
                self.fields = complete_later(self.fields, row.fields)
            if self.each_alone:
                self._check_alone(row)
            yield self._record(row)

    def _record(self, row: InputRow) -> Record | BadRow:
        try:
            record = self.fields.record(row.fields)
            if self.check is not None:
                self.check(record)
        except BadField as error:
            return BadRow(place=row.place, why=error.why, fix=error.fix)
        if self.fields.id is None or (self.naming.hide_spans and tells_of_spans(record)):
            record = replace(record, id=self.naming(record))
        if record.id in self._place:
            reason = f"the id {record.id!r} was already used at {self._place[record.id]}"
            return BadRow(place=row.place, why=reason, fix="Give each record its own id, or leave --id_field out.")
        self._place[record.id] = row.place
        return record

    def _check_alone(self, row: InputRow) -> None:
        """Refuse a row whose own fields are others than those that are settled."""
        if self.named.spans is None:
            marked = look_like_spans(row.fields.get(USUAL_SPANS))
            self._no_spans = self._no_spans or ("" if marked else row.place)
            if self.fields.spans is not None and self._no_spans:
                raise _other_fields(self._no_spans, f"it has no spans in {USUAL_SPANS!r}, as other rows have")
        form = frozenset(
            (name, value is None, value == "", isinstance(value, list)) for name, value in row.fields.items()
        )
        if form in self._forms:
            return
        self._forms.add(form)
        try:
            complete_fields = complete(self.named, row.place, row.fields)
        except BadInput:
            return  # it settles nothing: as a first row it is refused, as a later one it is read as the others are
        if replace(complete_fields, user=None, spans=None) != replace(self.fields, user=None, spans=None):
            raise _other_fields(row.place, "its text from other fields")
        if complete_fields.user not in (None, self.fields.user):
            raise _other_fields(row.place, f"its user from {complete_fields.user!r}, not {self.fields.user!r}")


def _other_fields(place: str, reason: str) -> BadInput:
    return BadInput(
        place,
        f"in private training no row may decide how others are read, and by itself this one would be read otherwise: "
        f"{reason}",
        "Name the fields (--text_field, --user_field, --spans_field), or give all rows the same ones.",
    )
