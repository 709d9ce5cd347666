# SPDX-License-Identifier: Apache-2.0
"""Pickles in one stream: one after the other, the five of a legacy torch checkpoint with its storages, or one that has
no mark and looks like text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reticent.core.scan import ScanEvidence
from reticent.scan.files.pickle_values import PickleReading, Refusal
from reticent.scan.files.symbolic_machine import read_pickle

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
"""The value of the first pickle of a legacy torch checkpoint."""
LEGACY_PICKLES = 5
MOST_PICKLES = 10_000
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*")
CONVERT = (
    "Do not load it. Ask its publisher for safetensors, or convert it where nothing can be lost (a container without "
    "network)."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamReading:
    """Evidence of a stream, and content in it that is unpickled as well."""

    evidence: tuple[ScanEvidence, ...]
    nested: tuple[memoryview, ...] = ()


def read_stream(view: memoryview, where: str, *, tail: bool = False) -> StreamReading:
    """All pickles of a stream that is one by its mark or its name.

    Args:
        view: the content.
        where: file and member.
        tail: whether bytes that are no pickle may follow, as in the tar archives of the oldest torch.
    """
    evidence: list[ScanEvidence] = []
    nested: list[memoryview] = []
    readings: list[PickleReading] = []
    at = 0
    while at < len(view) and len(readings) < MOST_PICKLES:
        reading = read_pickle(view, at)
        if reading.broken and readings and not _begins_marked(view, at):
            break
        readings.append(reading)
        evidence += [_refused(refusal, where) for refusal in reading.refusals]
        nested += reading.nested
        if reading.broken:
            if not tail:
                evidence.append(_unreadable(reading, where))
            return StreamReading(evidence=tuple(evidence), nested=tuple(nested))
        at = reading.end
        if _is_legacy(readings) and len(readings) == LEGACY_PICKLES:
            break
    if at < len(view) and not tail:
        evidence += _rest(readings, view, at, where)
    return StreamReading(evidence=tuple(evidence), nested=tuple(nested))


def unmarked(view: memoryview, where: str, *, raw: bool = False) -> StreamReading:
    """A stream that may be a pickle of an early protocol, which has no mark. Only what a loader would call counts.

    Args:
        view: the content.
        where: file and member.
        raw: whether it lies where a tensor's numbers lie, which can look like anything.
    """
    reading = read_pickle(view)
    whole = not reading.broken
    refusals = [
        refusal
        for refusal in reading.refusals
        if (whole or refusal.runs)
        and (_IDENTIFIER.fullmatch(refusal.name) or (not refusal.name and (whole or not raw)))
    ]
    evidence = tuple(_refused(refusal, where) for refusal in refusals)
    return StreamReading(evidence=evidence, nested=reading.nested if whole else ())


def _is_legacy(readings: list[PickleReading]) -> bool:
    return readings[0].top == TORCH_MAGIC


def _begins_marked(view: memoryview, at: int) -> bool:
    return len(view) > at + 1 and view[at] == 0x80 and 2 <= view[at + 1] <= 5


def _rest(readings: list[PickleReading], view: memoryview, at: int, where: str) -> Iterator[ScanEvidence]:
    """Bytes behind the last pickle: storages of a legacy checkpoint, of exactly the declared sizes, or nothing."""
    rest = len(view) - at
    if readings and _is_legacy(readings) and len(readings) == LEGACY_PICKLES:
        sizes = [storage.bytes for storage in readings[3].storages]
        if any(size is None for size in sizes):
            return
        declared = sum(8 + (size or 0) for size in sizes)
        if declared == rest:
            return
        note = f"{rest} bytes follow the pickles, and its storages need {declared}"
    else:
        note = f"{rest} bytes follow the end of the pickle, and are no pickle"
    yield ScanEvidence(score=1.0, where=where, note=note, remedy=CONVERT)


def _refused(refusal: Refusal, where: str) -> ScanEvidence:
    what = "calls" if refusal.runs else "refers to"
    return ScanEvidence(
        score=2.0 if refusal.runs else 1.5,
        where=where,
        note=f"loading it {what} {refusal.name}, which {refusal.why}" if refusal.name else refusal.why,
        certain=bool(refusal.name),
        remedy=CONVERT,
    )


def _unreadable(reading: PickleReading, where: str) -> ScanEvidence:
    return ScanEvidence(
        score=1.0,
        where=where,
        note=f"the pickle cannot be read to its end ({reading.broken}); a loader may run what comes before",
        remedy=CONVERT,
    )
