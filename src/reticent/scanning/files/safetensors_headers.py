# SPDX-License-Identifier: Apache-2.0
"""Scanner of safetensors headers: tensors tile the file exactly, or something else lies in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.scan_results import ScanEvidence
from reticent.scanning.files import content_kind as kinds
from reticent.scanning.files.file_by_file import file_by_file
from reticent.scanning.files.folder_files import MOST_REPEATED, FolderFile, folder_files
from reticent.scanning.scanner import scanner
from reticent.scanning.suspect import Suspect

DTYPE_BITS: Mapping[str, int] = {
    **dict.fromkeys(("F4", "F4_E2M1"), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    "C128": 128,
}
MOST_COMMAS = 8_000_000
"""Commas of a header that is read: a tensor has eight or so, and entries take a hundred times their bytes in memory."""
AGAIN = "Do not load it. Get the file again, or ask its publisher."


@scanner(
    name="safetensors_headers",
    title="Safetensors that are not what they say",
    kind="files",
    null="rule",
    blind_to="The numbers of the tensors: a file with a correct header can hold any weights.",
    order=11,
)
def look(suspect: Suspect) -> list[ScanEvidence]:
    """Evidence for headers that do not tile their file, names that stand twice, and other content under the name.

    Raises:
        BadInput: a file is cut.
    """
    return file_by_file(folder_files(suspect.folder), _of_file)


def _of_file(file: FolderFile) -> list[ScanEvidence]:
    kind, by_name = file.kind, file.path.endswith(".safetensors")
    if by_name and kind != kinds.SAFETENSORS:
        return [_fault(file, f"is called safetensors, and its content is {kind}")]
    return list(header_faults(file))[:MOST_REPEATED] if kind == kinds.SAFETENSORS else []


def header_of(file: FolderFile) -> bytes:
    """The header of a file, as bytes.

    Raises:
        BadInput: the file is shorter than its header says.
    """
    with file.place.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > kinds.MOST_HEADER:
            return b""
        header = opened.read(length)
    if len(header) < length:
        raise _cut(file, f"its header has {length:,} bytes, and only {len(header):,} are there")
    return header


def refuse_cut(file: FolderFile) -> None:
    """Refuse a file that ends before the tensors that its header lists.

    Raises:
        BadInput: it does.
    """
    if file.path.endswith(".safetensors") and file.bytes < 9:
        raise _cut(file, f"it has {file.bytes} bytes")
    if file.kind == kinds.SAFETENSORS:
        rows, _ = _rows(header_of(file))
        ends = [row["data_offsets"][1] for _, row in rows if _is_row(row)]
        room = _room(file)
        if ends and max(ends) > room and file.path.endswith(".safetensors"):
            raise _cut(file, f"its tensors need {max(ends):,} bytes, and {max(room, 0):,} are there")


def header_faults(file: FolderFile) -> Iterator[ScanEvidence]:
    """Evidence of one file."""
    header = header_of(file)
    if not header:
        yield _fault(file, "its header would have more than 100 MB")
        return
    rows, faults = _rows(header)
    for fault in faults:
        yield _fault(file, fault)
    places = []
    for name, row in rows:
        if not _is_row(row):
            yield _fault(file, f"tensor {name!r} has no dtype, shape and place")
            continue
        fault = _size_fault(name, row)
        if fault:
            yield _fault(file, fault)
        places.append((*row["data_offsets"], name))
    for fault in tiling_faults(places, _room(file)):
        yield _fault(file, fault)


def tiling_faults(places: Sequence[tuple[int, int, str]], room: int, align: int = 1) -> Iterator[str]:
    """Overlaps, holes and content behind the last of ``(begin, end, name)`` in ``room`` bytes."""
    at = 0
    for begin, end, name in sorted(places):
        if begin < at:
            yield f"tensor {name!r} overlaps another"
        elif begin - at >= align:
            yield f"{begin - at} bytes before tensor {name!r} belong to none"
        at = max(at, end)
    if at > room:
        yield f"its tensors need {at} bytes, and {room} are there"
    elif room - at >= align:
        yield f"{room - at} bytes behind the last tensor belong to none"


def _room(file: FolderFile) -> int:
    with file.place.open("rb") as opened:
        return file.bytes - 8 - int.from_bytes(opened.read(8), "little")


def _rows(header: bytes) -> tuple[list[tuple[str, Any]], list[str]]:
    """Tensors by name, and faults of the header itself."""
    faults: list[str] = []
    if header.count(b",") > MOST_COMMAS:
        return [], [f"its header has more than {MOST_COMMAS:,} entries"]
    try:
        content = json.loads(header.decode("utf-8"), object_pairs_hook=lambda pairs: _checked(pairs, faults))
    except (ValueError, RecursionError) as error:
        return [], [f"its header is no JSON ({str(error)[:80]})"]
    if not isinstance(content, dict):
        return [], ["its header is no object"]
    about = content.pop("__metadata__", {})
    if not (isinstance(about, dict) and all(isinstance(text, str) for text in about.values())):
        faults.append("its metadata are not words")
    return list(content.items()), faults


def _checked(entries: list[tuple[str, Any]], faults: list[str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in entries:
        if name in content:
            faults.append(f"the name {name!r} stands twice")
        content[name] = value
    return content


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        return False
    numbers = (row["shape"], row["data_offsets"])
    whole = all(isinstance(part, list) and all(type(n) is int and n >= 0 for n in part) for part in numbers)
    return whole and len(row["data_offsets"]) == 2


def _size_fault(name: str, row: Mapping[str, Any]) -> str:
    begin, end = row["data_offsets"]
    bits = DTYPE_BITS.get(row["dtype"]) if isinstance(row["dtype"], str) else None
    if bits is None:
        return f"tensor {name!r} is of the unknown dtype {row['dtype']!r}"
    for size in row["shape"]:
        bits *= size
        if bits > 1 << 64:
            break
    if end < begin or bits != 8 * (end - begin):
        return f"tensor {name!r} has {end - begin} bytes, and its shape needs {bits // 8}"
    return ""


def _fault(file: FolderFile, note: str) -> ScanEvidence:
    return ScanEvidence(score=1.0, where=file.path, note=note, remedy=AGAIN)


def _cut(file: FolderFile, why: str) -> BadInput:
    return BadInput(str(file.place), f"is cut: {why}", "Get the file again.")
