# SPDX-License-Identifier: Apache-2.0
"""Archives: members of zip beside the standard library's reading, oddities, bombs, tar, compressed streams."""

from __future__ import annotations

import bz2
import io
import lzma
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.scanning.files import pickles
from reticent.scanning.files.folder_files import FolderFile, folder_files
from reticent.scanning.files.pickles import refuse_bombs, scan_file
from reticent.scanning.files.zip_members import BadZip, list_members, unpack
from reticent.testing.malicious_files import call, torch_zip

HARMFUL = call("builtins", "exec", "1")


def scanned(content: bytes, folder: Path, name: str = "model.bin") -> list[str]:
    (folder / name).write_bytes(content)
    return [row.note for row in scan_file(file_at(folder / name))]


def file_at(path: Path) -> FolderFile:
    return FolderFile(path=path.name, place=path, bytes=path.stat().st_size)


@given(st.dictionaries(st.text("abc/", min_size=1, max_size=6), st.binary(max_size=60), max_size=5), st.booleans())
def test_members_are_those_that_the_standard_library_reads(content: dict[str, bytes], packed: bool) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, raw in content.items():
            archive.writestr(name, raw)
    listing = list_members(memoryview(buffer.getvalue()))
    twin = zipfile.ZipFile(buffer)
    assert {member.name for member in listing.members} == set(twin.namelist())
    for member in listing.members:
        assert bytes(unpack(listing.view, member, 1000)) == twin.read(member.name)
    out = sorted(name for name in content if name.startswith("/"))
    assert sorted(odd.split("'")[1] for odd in listing.oddities) == out
    assert all("leads out" in odd for odd in listing.oddities)


def test_a_large_archive_is_read_by_its_second_record() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("data.pkl", "w", force_zip64=True) as member:
        member.write(b"abc")
    (member,) = list_members(memoryview(buffer.getvalue())).members
    assert (member.name, member.size) == ("data.pkl", 3)


def edited(places: dict[bytes, tuple[int, bytes]]) -> bytes:
    raw = bytearray(torch_zip(pickle.dumps({}, protocol=2)))
    for mark, (offset, new) in places.items():
        at = raw.find(mark) + offset
        raw[at : at + len(new)] = new
    return bytes(raw)


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
ODD = {
    "marked as encrypted": edited({LOCAL: (6, b"\x01"), CENTRAL: (8, b"\x01")}),
    "is called": edited({LOCAL: (30, b"other")}),
    "two ways of packing": edited({LOCAL: (8, b"\x08")}),
    "two sizes": edited({LOCAL: (22, b"\x02\x00\x00\x00")}),
    "follow the end": torch_zip(pickle.dumps({})) + b"more",
    "stand before": b"PK\x03\x04" + b"x" * 40 + torch_zip(pickle.dumps({})),
    "overlaps": edited({CENTRAL: (20, b"\x90\x00\x00\x00"), LOCAL: (18, b"\x90\x00\x00\x00")}),
}


@pytest.mark.parametrize("words", ODD)
def test_archives_that_say_two_things_are_refused(words: str, tmp_path: Path) -> None:
    assert any(words in note for note in scanned(ODD[words], tmp_path)), scanned(ODD[words], tmp_path)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    assert any("cannot be read" in note for note in scanned(torch_zip(HARMFUL)[:-30], tmp_path))
    with pytest.raises(BadZip):
        list_members(memoryview(b"PK\x03\x04"))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """Ten gigabytes in ten kilobytes: what a list says is enough, so nothing is unpacked."""
    raw = bytearray(torch_zip(b"0" * (1 << 20), method=zipfile.ZIP_DEFLATED))
    size = (4 * 1000**3).to_bytes(4, "little")
    for mark, place in ((LOCAL, 22), (CENTRAL, 24)):
        at = raw.find(mark) + place
        raw[at : at + 4] = size
    (tmp_path / "model.bin").write_bytes(bytes(raw))
    with pytest.raises(BadInput, match=r"unpacks to 4,000,000,000 bytes"):
        refuse_bombs(file_at(tmp_path / "model.bin"))


def test_bombs_within_archives_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_UNPACKED", 100_000)
    inner = torch_zip(pickle.dumps(b"0" * 90_000), method=zipfile.ZIP_DEFLATED)
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"{number}.pt", inner)
    with pytest.raises(BadInput, match="archives in archives"):
        scanned(outer.getvalue(), tmp_path)
    with pytest.raises(BadInput, match="unpacks to"):
        scanned(bz2.compress(b"0" * 200_000), tmp_path)


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    raw = bytearray(torch_zip(HARMFUL + b"x" * 5000, method=zipfile.ZIP_DEFLATED))
    for mark, place in ((LOCAL, 22), (CENTRAL, 24)):
        at = raw.find(mark) + place
        raw[at : at + 4] = b"\x40\x00\x00\x00"
    assert any("not to what it says" in note for note in scanned(bytes(raw), tmp_path))


def test_archives_in_archives_end(tmp_path: Path) -> None:
    content = HARMFUL
    for _ in range(8):
        content = torch_zip(content)
    assert any("deep" in note for note in scanned(content, tmp_path))


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_compressed_streams_are_looked_into(pack: object, tmp_path: Path) -> None:
    assert "loading it calls builtins.exec, which is not on the list of harmless names" in scanned(
        pack(HARMFUL), tmp_path
    )  # type: ignore[operator]
    assert any("cannot be unpacked" in note for note in scanned(pack(HARMFUL)[:-9] + b"x" * 9, tmp_path))  # type: ignore[operator]


def test_tar_of_the_oldest_torch_cannot_be_read_to_its_end(tmp_path: Path) -> None:
    """Pickles stand between numbers in it, and any of them may call."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        parts = {
            "sys_info": pickle.dumps({"little_endian": True}, protocol=2),
            "pickle": pickle.dumps({"a": 1}, protocol=2),
            "tensors": pickle.dumps(1, protocol=2)
            + pickle.dumps(("0", "1", "torch.FloatTensor"), protocol=2)
            + b"\x00\xff" * 9,
        }
        for name, raw in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            archive.addfile(entry, io.BytesIO(raw))
    assert scanned(buffer.getvalue(), tmp_path) == ["18 bytes follow the end of the pickle, and are no pickle"]
    assert scanned(buffer.getvalue()[:700], tmp_path) != []


def test_a_tar_archive_without_its_mark_is_one(tmp_path: Path) -> None:
    """The first tar had no mark, and loaders still read it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("weights")
        entry.size = len(HARMFUL)
        archive.addfile(entry, io.BytesIO(HARMFUL))
    raw = bytearray(buffer.getvalue())
    raw[257:265] = bytes(8)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    with tarfile.open(fileobj=io.BytesIO(raw)) as twin:
        assert twin.getnames() == ["weights"]
    assert any("builtins.exec" in note for note in scanned(bytes(raw), tmp_path))


def test_legacy_storages_have_the_declared_sizes(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.ones(3)}, tmp_path / "model.bin", _use_new_zipfile_serialization=False)
    content = (tmp_path / "model.bin").read_bytes()
    assert scanned(content, tmp_path) == []
    assert any("its storages need" in note for note in scanned(content + b"more", tmp_path))


def test_numbers_of_a_tensor_are_no_pickle_whatever_they_look_like(tmp_path: Path) -> None:
    """A storage may begin with the mark of a pickle; it counts only where a call can be read in it."""
    rng = np.random.default_rng(0)
    for number in range(200):
        raw = b"\x80\x04" + rng.bytes(400)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
            archive.writestr(f"archive/data/{number}", raw)
        assert scanned(buffer.getvalue(), tmp_path) == []


def test_text_files_are_no_pickles(tmp_path: Path) -> None:
    texts = ("cat\ndog\n", "import os\n", "(c) 2024 the authors\n.", "Python\n", "# card\nos.system", "I am.\n", "N.\n")
    for text in texts:
        assert scanned(text.encode(), tmp_path, "README.md") == []


def test_links_out_of_the_folder_are_refused_and_those_of_a_hub_are_not(tmp_path: Path) -> None:
    store, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    store.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (store / "1").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/1")
    assert [file.path for file in folder_files(snapshot)] == ["config.json"]
    (snapshot / "weights.bin").symlink_to("/etc/passwd")
    with pytest.raises(BadInput, match="leaves the folder"):
        folder_files(snapshot)
    (snapshot / "weights.bin").unlink()
    (snapshot / "weights.bin").symlink_to("nowhere")
    with pytest.raises(BadInput, match="leads nowhere"):
        folder_files(snapshot)
