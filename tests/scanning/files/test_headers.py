# SPDX-License-Identifier: Apache-2.0
"""Headers of safetensors and GGUF: those of the formats' writers pass, each fault is named, no bytes raise errors."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from reticent.core.errors import BadInput
from reticent.scanning.files.folder_files import FolderFile
from reticent.scanning.files.gguf_headers import BadGguf, gguf_faults, read_header
from reticent.scanning.files.safetensors_headers import DTYPE_BITS, header_faults, refuse_cut

A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def written(folder: Path, content: bytes, name: str = "model.safetensors") -> FolderFile:
    (folder / name).write_bytes(content)
    return FolderFile(path=name, place=folder / name, bytes=len(content))


def safetensors(header: Any, data: int) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(data)


FAULTS = {
    "overlaps another": safetensors({"a": A, "b": A | {"data_offsets": [4, 12]}}, 12),
    "before tensor 'b' belong to none": safetensors({"a": A, "b": A | {"data_offsets": [12, 20]}}, 20),
    "behind the last tensor": safetensors({"a": A}, 50),
    "unknown dtype": safetensors({"a": A | {"dtype": "F99"}}, 8),
    "stands twice": safetensors(b'{"a":%b,"a":%b}' % (json.dumps(A).encode(), json.dumps(A).encode()), 8),
    "its shape needs": safetensors({"a": A | {"shape": [3]}}, 8),
    "no dtype, shape and place": safetensors({"a": {"dtype": "F32"}}, 0),
    "has no dtype": safetensors({"a": A | {"shape": [-2]}}, 8),
    "is no JSON": safetensors(b"{not json}", 0),
    "metadata are not words": safetensors({"__metadata__": {"a": 1}, "a": A}, 8),
}


@pytest.mark.parametrize("words", FAULTS)
def test_each_fault_of_a_safetensors_header_is_named(words: str, tmp_path: Path) -> None:
    notes = [row.note for row in header_faults(written(tmp_path, FAULTS[words]))]
    assert any(words in note for note in notes), notes


NOT_REFUSED_THERE = ("stands twice",)
"""The format's own reader takes the last of two names."""


@pytest.mark.parametrize("words", sorted(set(FAULTS) - set(NOT_REFUSED_THERE)))
def test_the_own_reader_refuses_these_too(words: str, tmp_path: Path) -> None:
    written(tmp_path, FAULTS[words])
    with pytest.raises(SafetensorError):
        safe_open(tmp_path / "model.safetensors", "np").__enter__()


@given(
    st.lists(st.tuples(st.sampled_from(["f4", "f2", "i8", "u1"]), st.lists(st.integers(0, 3), max_size=3)), max_size=5)
)
def test_files_of_the_own_writer_pass(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, list[int]]]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    save_file({f"t{n}": np.ones(shape, dtype=kind) for n, (kind, shape) in enumerate(rows)}, folder / "a.safetensors")
    file = written(folder, (folder / "a.safetensors").read_bytes())
    assert list(header_faults(file)) == []
    refuse_cut(file)


@pytest.mark.parametrize("size", [0, 5, 9, 60, 100])
def test_a_cut_file_is_refused(size: int, tmp_path: Path) -> None:
    content = safetensors({"a": A, "b": A | {"data_offsets": [8, 16]}}, 16)
    with pytest.raises(BadInput, match="is cut"):
        refuse_cut(written(tmp_path, content[:size]))


def test_element_sizes_are_those_of_the_format() -> None:
    assert {name: DTYPE_BITS[name] for name in ("BOOL", "BF16", "F32", "F64", "F4", "C64")} == {
        "BOOL": 8, "BF16": 16, "F32": 32, "F64": 64, "F4": 4, "C64": 64,
    }  # fmt: skip


# ---- GGUF -----------------------------------------------------------------------------------------------------------


def gguf_file(folder: Path, name: str = "model.gguf") -> bytes:
    writer = gguf.GGUFWriter(folder / name, "llama")
    writer.add_chat_template("{{ messages }}")
    writer.add_token_list(["a", "b"])
    for number in range(3):
        writer.add_tensor(f"t{number}", np.ones((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / name).read_bytes()


def test_a_header_is_read_as_the_own_reader_does(tmp_path: Path) -> None:
    header = read_header(memoryview(gguf_file(tmp_path)))
    twin = gguf.GGUFReader(tmp_path / "model.gguf")
    assert [(row.name, row.bytes) for row in header.tensors] == [(row.name, row.n_bytes) for row in twin.tensors]
    assert [header.data + row.offset for row in header.tensors] == [int(row.data_offset) for row in twin.tensors]
    assert header.fields["tokenizer.chat_template"] == "{{ messages }}"
    assert header.fields["tokenizer.ggml.tokens"] == 2


def test_block_sizes_are_those_of_ggml() -> None:
    from reticent.scanning.files.gguf_headers import TYPES

    known = {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: known[kind] for kind in TYPES if kind in known} == {k: v for k, v in TYPES.items() if k in known}
    assert len(set(TYPES) & set(known)) >= 25


def test_faults_of_a_gguf_file_are_named(tmp_path: Path) -> None:
    content = gguf_file(tmp_path)
    cases = {
        "behind the last tensor": content + bytes(64),
        "are there": content[:-40],
        "cannot be read": content[:200],
        "of version": content[:4] + struct.pack("<I", 9) + content[8:],
        "would have": content[:8] + struct.pack("<Q", 1 << 60) + content[16:],
    }
    for words, raw in cases.items():
        notes = list(gguf_faults(written(tmp_path, raw, "bad.gguf")))
        assert any(words in note for note in notes), (words, notes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return gguf_file(tmp_path_factory.mktemp("gguf"))


@example(at=176, raw=b"\x00\x00\x80")
@given(st.integers(4, 300), st.binary(min_size=1, max_size=8))
def test_changed_gguf_headers_raise_nothing_else(whole: bytes, at: int, raw: bytes) -> None:
    content = bytearray(whole)
    content[at : at + len(raw)] = raw
    with contextlib.suppress(BadGguf):
        read_header(memoryview(bytes(content)))
