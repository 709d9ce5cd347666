# SPDX-License-Identifier: Apache-2.0
"""Records of large data: in an Arrow file that is mapped into memory, and made into objects when they are looked at.

The file has no name in any folder: it is opened and unlinked at once, can be read by its owner only, and goes with the
process that made it, even when that is killed. It lies where temporary files lie (``TMPDIR``).
"""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reticent.core.errors import BadInput
from reticent.core.record import SCHEMA, Record, from_row, to_row

LARGE = 2**22
"""Characters, of about 6,000 mails. Records of less stay objects."""
_BATCH = 1024
_RESIDENT = 16
"""Batches after which pages that were read are given back: they stay in the system's cache, not in this process."""


def _wide(kind: pa.DataType) -> pa.DataType:
    """The type with strings that may have any number of bytes together; of the usual ones a batch holds 2 GiB."""
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_list(kind):
        return pa.list_(_wide(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_wide(field.type)) for field in kind])
    return kind


_COLUMNS = pa.schema([field.with_type(_wide(field.type)) for field in SCHEMA])
"""Of the mapped file."""


class MappedRecords(Sequence[Record]):
    """Records of a mapped file, or some of them. Equal to any sequence of equal records.

    Args:
        batches: each of ``_BATCH`` rows but the last, of ``core.record.SCHEMA`` with longer strings.
        rows: ``[N]`` which rows, and in which order; all of them where it is None.
        mapped: the file.
    """

    __hash__ = None  # type: ignore[assignment]  # as a list: what is equal to a tuple has another hash

    def __init__(
        self, batches: Sequence[pa.RecordBatch], rows: npt.NDArray[np.int64] | None = None, *, mapped: mmap.mmap
    ) -> None:
        self._batches, self._mapped = batches, mapped
        self._rows = np.arange(sum(batch.num_rows for batch in batches)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), _BATCH):
            if start % (_RESIDENT * _BATCH) == 0:
                self._give_back()
            rows = self._rows[start : start + _BATCH]
            for part in np.split(rows, np.flatnonzero(np.diff(rows // _BATCH)) + 1):
                batch = self._batches[int(part[0]) // _BATCH].take(pa.array(part % _BATCH))
                yield from map(from_row, batch.to_pylist())

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> MappedRecords: ...

    def __getitem__(self, place: int | slice) -> Record | MappedRecords:
        if isinstance(place, slice):
            return MappedRecords(self._batches, self._rows[place], mapped=self._mapped)
        batch, row = divmod(int(self._rows[place]), _BATCH)
        return from_row(self._batches[batch].slice(row, 1).to_pylist()[0])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)  # another process has no such file

    def take(self, places: Iterable[int]) -> MappedRecords:
        """Those at these places, in this order; nothing is copied."""
        return MappedRecords(self._batches, self._rows[np.fromiter(places, dtype=np.int64)], mapped=self._mapped)

    def _give_back(self) -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)


class RecordSink:
    """Takes records one after another, and holds them as objects while they are few, in a mapped file beyond.

    Examples:
        >>> sink = RecordSink(large=0)
        >>> for word in ("one", "two"):
        ...     sink.add(Record(id=word, text=word))
        >>> records = sink.records()
        >>> type(records).__name__, [record.text for record in records], records[-1].id
        ('MappedRecords', ['one', 'two'], 'two')

    Args:
        large: characters beyond which records go to a file; ``LARGE`` where it is None.
    """

    def __init__(self, *, large: int | None = None) -> None:
        self._room: float = LARGE if large is None else large
        self._waiting: list[Record] = []
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchFileWriter | None = None

    def add(self, record: Record) -> None:
        """Take the next record.

        Raises:
            BadInput: the place of temporary files is full.
        """
        self._waiting.append(record)
        self._room -= sum(len(text) for _, text in record.pieces)
        if self._room < 0 and len(self._waiting) >= _BATCH:
            self._write(_BATCH)

    def records(self) -> list[Record] | MappedRecords:
        """All of them, in their order. The sink takes no more.

        Raises:
            BadInput: the place of temporary files is full.
        """
        if self._room < 0:
            self._write(1)
        if self._writer is None or self._file is None:
            return self._waiting
        try:
            self._writer.close()
            self._file.flush()
        except OSError as error:
            raise _full(error) from error
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()
        with pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))) as file:
            batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        written = MappedRecords(batches, mapped=mapped)
        return [*written, *self._waiting] if self._waiting else written

    def _write(self, least: int) -> None:
        """Write what waits, in whole batches while there are ``least`` records; what cannot be written stays here."""
        while len(self._waiting) >= least:
            try:
                rows = [to_row(record) for record in self._waiting[:_BATCH]]
                batch = pa.RecordBatch.from_pylist(rows, schema=_COLUMNS)
            except (UnicodeEncodeError, OverflowError, pa.ArrowException):
                self._room = math.inf  # such as a name of a span that is no Unicode; it is refused where it matters
                return
            try:
                self._opened().write_batch(batch)
            except OSError as error:
                raise _full(error) from error
            del self._waiting[:_BATCH]

    def _opened(self) -> pa.RecordBatchFileWriter:
        if self._writer is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as its records
            self._writer = pa.ipc.new_file(pa.PythonFile(self._file, mode="w"), _COLUMNS)
        return self._writer


def held(records: Iterable[Record]) -> list[Record] | MappedRecords:
    """A list of the records; those of a mapped file as they are."""
    return records if isinstance(records, MappedRecords) else list(records)


def at_places(records: Sequence[Record], places: Sequence[int]) -> list[Record] | MappedRecords:
    """The records at these places, as `held` has them."""
    return records.take(places) if isinstance(records, MappedRecords) else [records[place] for place in places]


def _full(error: OSError) -> BadInput:
    reason = f"cannot be written to ({error.strerror or error}), and records of large data are kept there"
    return BadInput(tempfile.gettempdir(), reason, "Name a folder with room for the data in TMPDIR.")
