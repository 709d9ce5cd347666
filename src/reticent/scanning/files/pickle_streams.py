# SPDX-License-Identifier: Apache-2.0
"""Pickles in one stream: one after the other, the five of a legacy torch checkpoint with its storages, or one that has
no mark and looks like text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reticent.core.scan_results import ScanEvidence
from reticent.scanning.files.pickle_values import PickleReading, Refusal
from reticent.scanning.files.symbolic_machine import read_pickle

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


def read_stream(view: memoryview, where: str) -> StreamReading:
    """All pickles of a stream that is one by its mark or its name.

    Args:
        view: the content.
        where: file and member.
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
            evidence.append(_unreadable(reading, where))
            return StreamReading(evidence=tuple(evidence), nested=tuple(nested))
        at = reading.end
        if _is_legacy(readings) and len(readings) == LEGACY_PICKLES:
            break
    if at < len(view):
        evidence += _rest(readings, view, at, where)
    return StreamReading(evidence=tuple(evidence), nested=tuple(nested))


def unmarked(view: memoryview, where: str, *, raw: bool = False) -> StreamReading:
    """A stream that may be pickles of an early protocol, which have no mark. Only what a loader would call counts.

    Args:
        view: the content.
        where: file and member.
        raw: whether it lies where a tensor's numbers lie, which can look like anything.
    """
    evidence: list[ScanEvidence] = []
    nested: list[memoryview] = []
    at = 0
    for _ in range(MOST_PICKLES):
        reading = read_pickle(view, at)
        evidence += [_refused(refusal, where) for refusal in reading.refusals if _counts(refusal, reading, raw=raw)]
        nested += reading.nested
        if reading.given_up and not raw:
            evidence.append(_unreadable(reading, where))
        if reading.broken or raw or reading.end >= len(view):
            return StreamReading(evidence=tuple(evidence), nested=tuple(nested))
        at = reading.end
    note = f"more than {MOST_PICKLES:,} pickles follow each other"
    evidence.append(ScanEvidence(score=1.0, where=where, note=note, remedy=CONVERT))
    return StreamReading(evidence=tuple(evidence), nested=tuple(nested))


def _counts(refusal: Refusal, reading: PickleReading, *, raw: bool) -> bool:
    """True for a refusal that no text makes by chance: the name of a thing that is used, or a whole pickle."""
    if reading.broken:
        used = refusal.runs or (refusal.handed and not raw)
        return used and _IDENTIFIER.fullmatch(refusal.name) is not None
    return not refusal.name or refusal.name.startswith("extension ") or bool(_IDENTIFIER.fullmatch(refusal.name))


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
