# SPDX-License-Identifier: Apache-2.0
"""Ways past the allow-list that a loader follows: each is refused, and a control shows that the payload is live."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reticent.core.scan_results import ScanEvidence
from reticent.scanning.files import opcodes, symbolic_machine
from reticent.scanning.files.folder_files import FolderFile
from reticent.scanning.files.pickles import look, scan_file
from reticent.scanning.suspect import Suspect
from reticent.testing.malicious_files import call

HARMLESS = pickle.dumps({"weight": [1.0]}, protocol=2)
LOADER = b"ctorch.storage\n_load_from_bytes\n"
DICTIONARY = b"ccollections\nOrderedDict\n)R"


def text(words: str) -> bytes:
    return b"X" + struct.pack("<I", len(words.encode())) + words.encode()


def blob(content: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(content)) + content


def evil(source: str) -> bytes:
    return call("builtins", "exec", source, protocol=2)


def unmarked(source: str) -> bytes:
    """The same in the first protocol, which has no mark."""
    return b"(V" + source.encode() + b"\nibuiltins\nexec\n."


def state_that_is_called(source: str) -> bytes:
    """An instance gets a ``__setstate__`` of its own, which the next state is handed to."""
    inner = evil(source)
    return b"\x80\x03" + DICTIONARY + b"}" + text("__setstate__") + LOADER + b"sb" + blob(inner) + b"b."


def items_that_are_called(source: str) -> bytes:
    inner = evil(source)
    return b"\x80\x03" + DICTIONARY + b"}" + text("append") + LOADER + b"sb" + blob(inner) + b"a."


def hidden_state_call(source: str) -> bytes:
    """No mark, cut at its end, and nothing is called by an instruction."""
    filled = DICTIONARY + b"}V__setstate__\ncbuiltins\nexec\nsb"
    return filled + b"V" + source.encode() + b"\nb\xff"


def array(descr: object, content: bytes) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": (1,)})
    return buffer.getvalue() + content


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return buffer.getvalue()


def uncounted_member(source: str) -> bytes:
    """The list counts one member; the second lies in the numbers of the first, and readers of sizes find it."""
    hidden = archive({"evil.npy": array("|O", evil(source))})
    listed = hidden.rfind(b"PK\x01\x02")
    whole = bytearray(archive({"archive/data/0": hidden[:listed]}))
    at = whole.rfind(b"PK\x01\x02")
    end = whole.rfind(b"PK\x05\x06")
    row = bytearray(hidden[listed : hidden.rfind(b"PK\x05\x06")])
    row[42:46] = struct.pack("<I", 30 + len("archive/data/0"))
    size = end - at + len(row)
    tail = bytearray(whole[end:])
    tail[12:16] = struct.pack("<I", size)
    return bytes(whole[:end] + row + tail)


def two_second_records(source: str) -> bytes:
    """The locator of a large archive leads to one list, and the record that stands right before it to another."""
    parts, lists = [], []
    at = 0
    for members in ({"a.npy": array("<f8", bytes(8))}, {"evil.npy": array("|O", evil(source))}):
        raw = archive(members)
        listed, end = raw.rfind(b"PK\x01\x02"), raw.rfind(b"PK\x05\x06")
        row = bytearray(raw[listed:end])
        row[42:46] = struct.pack("<I", at)
        start = at + listed
        record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(row), start)
        lists.append(start + len(row))
        part = raw[:listed] + bytes(row) + record
        parts.append(part)
        at += len(part)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, lists[0], 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return b"".join(parts) + locator + end


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            opened.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def tar_that_is_a_pickle(source: str) -> bytes:
    """The name of the first member is a pickle, so the archive is one too."""
    path = source.split("'")[1]  # a name has a hundred bytes at most
    return tar_of({f"(V{path}\nVw\nibuiltins\nopen\n.": b"x" * 600})


def tar_with_another_sum(source: str) -> bytes:
    """No mark, and a sum in the form for large numbers."""
    raw = bytearray(tar_of({"weights": evil(source)}))
    raw[257:265] = bytes(8)
    raw[148:156] = b" " * 8
    raw[148:156] = b"\x80" + sum(raw[:512]).to_bytes(7, "big")
    return bytes(raw)


def old_torch_tar(source: str) -> bytes:
    """The second pickle of the storages stands behind numbers."""
    first = pickle.dumps(2, protocol=2) + pickle.dumps(("0", "cpu", 1), protocol=2) + struct.pack("<q", 1) + bytes(4)
    return tar_of({"storages": first + evil(source), "tensors": HARMLESS, "pickle": HARMLESS})


def nested_in_old_torch_tar(source: str) -> bytes:
    inner = evil(source)
    return tar_of({"storages": b"\x80\x03" + LOADER + blob(inner) + b"\x85R."})


def legacy_without_marks(source: str) -> bytes:
    head = b"L%dL\n.I1001\n.(dVlittle_endian\nI01\ns." % 0x1950A86A20F9469CFC6C
    return head + unmarked(source)


def deflated(first: bytes) -> Callable[[str], bytes]:
    def make(source: str) -> bytes:
        return archive(
            {"archive/version": b"3\n", "archive/data.pkl": first + b"0" + unmarked(source)}, zipfile.ZIP_DEFLATED
        )

    return make


def many_empty_blocks(source: str) -> bytes:
    """A deflated member whose first kilobytes unpack to nothing."""
    content = evil(source)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"\x00\x00\x00\xff\xff" * 2000 + packer.compress(content) + packer.flush()
    raw = bytearray(archive({"archive/data.pkl": body, "archive/version": b"3\n"}))
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = raw.find(mark)
        raw[at + place : at + place + 2] = struct.pack("<H", 8)
        crc = at + place + 6
        raw[crc : crc + 4] = struct.pack("<I", zlib.crc32(content))
        raw[crc + 8 : crc + 12] = struct.pack("<I", len(content))
    return bytes(raw)


def objects_beside_numbers(source: str) -> bytes:
    return array("<f8", bytes(8)) + array("|O", evil(source))


PICKLE, TWICE = "pickle.load(open(sys.argv[1], 'rb'))", "f = open(sys.argv[1], 'rb'); pickle.load(f); pickle.load(f)"
TORCH = "import torch; torch.load(sys.argv[1], weights_only=False)"
NUMPY = "import numpy; numpy.load(sys.argv[1], allow_pickle=True)"
ARCHIVE = "import numpy; z = numpy.load(sys.argv[1], allow_pickle=True); [z[k] for k in z.files]"
TWO_ARRAYS = "import numpy; f = open(sys.argv[1], 'rb'); [numpy.load(f, allow_pickle=True) for _ in 'ab']"
JOBLIB = "import joblib; joblib.load(sys.argv[1])"
TAR = "import tarfile; pickle.loads(tarfile.open(sys.argv[1]).extractfile('weights').read())"

SMUGGLED: dict[str, tuple[Callable[[str], bytes], str]] = {
    "a state that is called": (state_that_is_called, PICKLE),
    "items that are called": (items_that_are_called, PICKLE),
    "a state that is called, cut and without a mark": (hidden_state_call, PICKLE),
    "a list of arguments": (
        lambda source: (
            b"\x80\x03ctorch._tensor\n_rebuild_from_type_v2\n]("
            + LOADER
            + b"ctorch\nTensor\n("
            + blob(evil(source))
            + b"tNeR."
        ),
        JOBLIB,
    ),
    "legacy torch without marks": (legacy_without_marks, TORCH),
    "a second pickle without marks": (lambda source: b"N." + unmarked(source), TWICE),
    "a dtype by its long name": (lambda source: array("object", evil(source)), NUMPY),
    "objects beside numbers": (objects_beside_numbers, TWO_ARRAYS),
    "an array in the place of numbers": (
        lambda source: archive({"archive/data/0": array("|O", evil(source))}),
        ARCHIVE,
    ),
    "a member that is not counted": (uncounted_member, ARCHIVE),
    "two second records": (two_second_records, ARCHIVE),
    "deflated, like safetensors": (deflated(b"(S'12345{'\n"), TORCH),
    "deflated, like GGUF": (deflated(b"GGUF12345"), TORCH),
    "deflated, like nothing": (many_empty_blocks, TORCH),
    "an empty gzip stream first": (lambda source: gzip.compress(b"") + gzip.compress(evil(source)), JOBLIB),
    "an empty bzip2 stream first": (lambda source: bz2.compress(b"") + bz2.compress(evil(source)), JOBLIB),
    "an empty xz stream first": (lambda source: lzma.compress(b"") + lzma.compress(evil(source)), JOBLIB),
    "zlib": (lambda source: zlib.compress(evil(source)), JOBLIB),
    "the older form of xz": (lambda source: lzma.compress(evil(source), lzma.FORMAT_ALONE), JOBLIB),
    "a file of the oldest joblib": (
        lambda source: b"ZF" + hex(len(evil(source))).encode().ljust(19) + zlib.compress(evil(source)),
        JOBLIB,
    ),
    "a tar archive that is a pickle": (tar_that_is_a_pickle, PICKLE),
    "a tar archive with a sum of another form": (tar_with_another_sum, TAR),
    "a pickle that begins like bzip2": (
        lambda source: b"BZh\x00\x00" + b"x" * 0x685A + b"0" + unmarked(source),
        PICKLE,
    ),
    "behind numbers in the oldest torch": (old_torch_tar, ""),
    "nested in the oldest torch": (nested_in_old_torch_tar, ""),
    "a long line": (lambda source: b"V" + b"a" * (opcodes.MOST_LINE + 9) + b"\n0" + unmarked(source), PICKLE),
    "names that are dropped first": (
        lambda source: (
            b"".join(f"cos\n{name}\n0".encode() for name in list_of_names()) + unmarked(source)[:-1] + b"\xff"
        ),
        PICKLE,
    ),
}


def list_of_names() -> list[str]:
    import os

    return [name for name in os.__all__ if name.isalpha()][:30]


def evidence_of(content: bytes, folder: Path) -> list[ScanEvidence]:
    place = folder / "pytorch_model.bin"
    place.write_bytes(content)
    return list(scan_file(FolderFile(path=place.name, place=place, bytes=len(content))))


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_smuggled_call_is_refused(name: str, tmp_path: Path) -> None:
    make, _ = SMUGGLED[name]
    written = tmp_path / "w"
    evidence = evidence_of(make(f"open({str(written)!r},'w')"), tmp_path)
    assert any(row.score >= 1 for row in evidence)
    assert not written.exists()


NEEDS_TORCH = ("a state that is called", "items that are called")
LIVE = [
    name
    for name, (_, loader) in SMUGGLED.items()
    if loader in (PICKLE, TWICE, NUMPY, ARCHIVE, TWO_ARRAYS, TAR) and name not in NEEDS_TORCH
]


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """The control, in a process of its own where each payload only makes a file of the test's."""
    program = "import pickle, sys\n"
    for number, name in enumerate(LIVE):
        make, loader = SMUGGLED[name]
        (tmp_path / f"m{number}").write_bytes(make(f"open({str(tmp_path / f'w{number}')!r},'w')"))
        body = loader.replace("sys.argv[1]", repr(str(tmp_path / f"m{number}")))
        program += f"try:\n    {body}\nexcept Exception:\n    pass\n"
    subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert [name for number, name in enumerate(LIVE) if not (tmp_path / f"w{number}").exists()] == []


def test_what_a_bound_leaves_unread_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolic_machine, "MOST_STEPS", 1000)
    notes = [row.note for row in evidence_of(b"N0" * 1000 + unmarked("1"), tmp_path)]
    assert any("more than 1000 instructions" in note for note in notes)


def test_a_crowd_of_oddities_hides_no_call(tmp_path: Path) -> None:
    raw = bytearray(archive({f"{number}.txt": b"x" for number in range(40)} | {"z.pkl": evil("1")}))
    for number in range(40):
        raw[raw.find(b"PK\x03\x04" + bytes([20])) + 4] = 21
        at = raw.find(f"{number}.txt".encode())
        raw[at] ^= 64
    (tmp_path / "model.bin").write_bytes(bytes(raw))
    evidence = look(Suspect(folder=tmp_path, cache=tmp_path))
    assert len(evidence) == 20
    assert evidence[0].certain


@pytest.mark.parametrize("words", ["leads out", "a link", "neither a file", "content follows"])
def test_odd_members_of_tar_are_refused(words: str, tmp_path: Path) -> None:
    kinds = {"a link": tarfile.SYMTYPE, "neither a file": tarfile.FIFOTYPE}
    entry = tarfile.TarInfo("../x" if words == "leads out" else "x")
    entry.type = kinds.get(words, tarfile.REGTYPE)
    entry.linkname = "y" if words == "a link" else ""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        opened.addfile(entry)
    content = buffer.getvalue() + (b"more" if words == "content follows" else b"")
    assert any(words in row.note for row in evidence_of(content, tmp_path))


def test_arrays_of_numbers_raise_no_alarm(tmp_path: Path) -> None:
    for dtype in ("<f8", "|b1", "<U7", "<M8[ns]", [("a", "<f4"), ("b", "|S3", (2,))]):
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(4, dtype=np.dtype(dtype)))
        assert evidence_of(buffer.getvalue() * 2, tmp_path) == []
    old = array("<f8", bytes(8)).replace(b"(1,), ", b"(1L,),")
    assert evidence_of(old, tmp_path) == []


def test_numbers_that_begin_like_compressed_content_raise_no_alarm(tmp_path: Path) -> None:
    for start in (b"\x78\x9c", b"\x5d\x00\x00", b"ZF0x"):
        assert evidence_of(start + bytes(range(200, 256)) * 9, tmp_path) == []
