# SPDX-License-Identifier: Apache-2.0
"""More malicious kinds: settings that a loader calls, layers and graphs that act, archives that hold programs, and
pickles of harmless names alone. They are never loaded; `reticent.testing.malicious_files` lists them with its own.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from reticent.testing.malicious_files import OWN, REPORTED, Maker, call, torch_zip

MORE: dict[str, tuple[str, Maker]] = {}
"""Kind → origin and maker."""


def _kind(origin: str) -> Callable[[Maker], Maker]:
    def register(make: Maker) -> Maker:
        MORE[make.__name__.lstrip("_")] = (origin, make)
        return make

    return register


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message, of less than 128 bytes.

    >>> field(1, b"ab")
    b'\\n\\x02ab'
    """
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def zipped(members: Mapping[str, bytes | str]) -> bytes:
    """A zip archive of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    """A tar archive of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _with_config(folder: Path, name: str, content: bytes | str) -> None:
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


# ---- settings that a loader calls -----------------------------------------------------------------------------------


def _target(payload: str) -> str:
    return f"model:\n  _target_: builtins.exec\n  _args_: [{json.dumps(payload)}]\n"


@_kind(REPORTED)
def _target_in_settings(folder: Path, payload: str) -> None:
    _with_config(folder, "model_config.yaml", _target(payload))


@_kind(REPORTED)
def _target_in_tar(folder: Path, payload: str) -> None:
    (folder / "model.nemo").write_bytes(tarred({"./model_config.yaml": _target(payload).encode()}))


@_kind(OWN)
def _crowd_of_modules(folder: Path, payload: str) -> None:
    """The thousandth module is not one of the library's."""
    rows = [{"idx": n, "type": "sentence_transformers.models.Normalize", "path": ""} for n in range(1000)]
    (folder / "modules.json").write_text(json.dumps([*rows, {"idx": 1000, "type": "own_module.Net", "path": ""}]))
    (folder / "own_module.txt").write_text(payload)


@_kind(OWN)
def _types_of_a_router(folder: Path, payload: str) -> None:
    content = {"types": {"query_0": "own_module.Net"}, "structure": {"query": ["query_0"]}}
    _with_config(folder, "router_config.json", json.dumps(content))
    (folder / "own_module.txt").write_text(payload)


@_kind(REPORTED)
def _auto_map_of_a_tokenizer(folder: Path, payload: str) -> None:
    about = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["someone/else--tokenization_own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    (folder / "tokenization_own.txt").write_text(payload)


@_kind(OWN)
def _shard_on_another_disk(folder: Path, payload: str) -> None:
    places = {"a": "model-00001.safetensors", "b": "C:\\Users\\Public\\weights.bin"}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    (folder / "config.json").write_text(json.dumps({"note": payload}))


@_kind(REPORTED)
def _walk_in_gguf(folder: Path, payload: str) -> None:
    """A template in the header of the weights."""
    walk = "{{ cycler.__init__.__globals__['os'].popen(" + repr(payload) + ") }}"

    def text(words: str) -> bytes:
        return struct.pack("<Q", len(words.encode())) + words.encode()

    fields = text("tokenizer.chat_template") + struct.pack("<I", 8) + text(walk)
    (folder / "model.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + fields)


@_kind(REPORTED)
def _lines_of_a_path_file(folder: Path, payload: str) -> None:
    """The ending is that of checkpoints, and Python runs such lines of path files."""
    _with_config(folder, "weights.pth", f"import os; exec({payload!r})\n")


# ---- layers and graphs ----------------------------------------------------------------------------------------------


def _layer(home: str, name: str, payload: str) -> str:
    return json.dumps({"config": {"layers": [{"module": home, "class_name": name, "config": {"function": payload}}]}})


@_kind(REPORTED)
def _lambda_in_keras(folder: Path, payload: str) -> None:
    (folder / "model.keras").write_bytes(zipped({"config.json": _layer("keras.layers", "Lambda", payload)}))


@_kind(OWN)
def _escaped_lambda(folder: Path, payload: str) -> None:
    content = _layer("keras.layers", "Lambda", payload).replace("Lambda", "La\\u006dbda")
    (folder / "model.keras").write_bytes(zipped({"config.json": content}))


@_kind(REPORTED)
def _module_in_keras(folder: Path, payload: str) -> None:
    (folder / "model.keras").write_bytes(zipped({"config.json": _layer("subprocess", "run", payload)}))


@_kind(REPORTED)
def _torch_module_in_keras(folder: Path, payload: str) -> None:
    (folder / "model.keras").write_bytes(zipped({"config.json": _layer("keras.layers", "TorchModuleWrapper", payload)}))


@_kind(OWN)
def _lambda_behind_a_block(folder: Path, payload: str) -> None:
    """HDF5 files may begin at byte 512."""
    content = bytes(512) + b"\x89HDF\r\n\x1a\n" + _layer("keras.layers", "Lambda", payload).encode()
    (folder / "model.h5").write_bytes(content)


@_kind(REPORTED)
def _graph_that_writes(folder: Path, payload: str) -> None:
    node = field(1, b"node") + field(2, b"WriteFile") + field(3, payload.encode()[:40])
    graph = field(2, field(2, field(1, node)))
    (folder / "saved_model.pb").write_bytes(b"\x08\x01" + graph)


@_kind(REPORTED)
def _weights_outside_of_a_graph(folder: Path, payload: str) -> None:
    entry = field(1, b"location") + field(2, b"../../../etc/passwd")
    graph = field(7, field(5, field(8, b"w") + field(13, entry)))
    (folder / "model.onnx").write_bytes(b"\x08\x08" + graph + field(6, payload.encode()[:40]))


# ---- programs in archives -------------------------------------------------------------------------------------------


@_kind(REPORTED)
def _handler_in_archive(folder: Path, payload: str) -> None:
    _with_config(folder, "model.mar", zipped({"handler.py": payload, "MAR-INF/MANIFEST.json": "{}"}))


@_kind(OWN)
def _machine_code_in_archive(folder: Path, payload: str) -> None:
    code = b"\x7fELF" + bytes(60) + payload.encode()
    (folder / "model.pt").write_bytes(zipped({"model/version": "3", "model/data/kernel": code}))


@_kind(OWN)
def _program_of_many_systems(folder: Path, payload: str) -> None:
    """A shell script and a program of Windows in one, as models come that bring their own server."""
    _with_config(folder, "model.bin", b"MZqFpD='\n\n'\n" + payload.encode() + bytes(300))


@_kind(OWN)
def _frame_that_is_skipped(folder: Path, payload: str) -> None:
    """Zstandard begins with a frame that readers pass over."""
    frame = struct.pack("<II", 0x184D2A53, 4) + b"note"
    (folder / "pytorch_model.bin").write_bytes(frame + b"\x28\xb5\x2f\xfd\x00\x00" + call("builtins", "exec", payload))


@_kind(OWN)
def _packed_by_compress(folder: Path, payload: str) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x1f\x9d\x90" + call("builtins", "exec", payload))


# ---- pickles --------------------------------------------------------------------------------------------------------


def _text(words: str) -> bytes:
    return b"X" + struct.pack("<I", len(words.encode())) + words.encode()


@_kind(OWN)
def _partial_with_a_state(folder: Path, payload: str) -> None:
    """A partial of a harmless function gets another function by its state, and is called by the next."""
    partial = b"cfunctools\npartial\ncbuiltins\nlen\n\x85R"
    state = b"(cbuiltins\nexec\n" + _text(payload) + b"\x85}Nt"
    (folder / "model.pkl").write_bytes(b"\x80\x02" + partial + state + b"b)R.")


@_kind(OWN)
def _fifth_protocol(folder: Path, payload: str) -> None:
    """Frames, byte arrays, and a name from the memo of the protocol that has them."""
    body = b"\x96" + struct.pack("<Q", 3) + b"abc0" + b"\x8c\x08builtins\x94\x8c\x04exec\x940h\x00h\x01\x93"
    body += _text(payload) + b"\x85R."
    (folder / "model.bin").write_bytes(b"\x80\x05\x95" + struct.pack("<Q", len(body)) + body)


@_kind(OWN)
def _large_form_of_zip(folder: Path, payload: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (("archive/data.pkl", call("builtins", "exec", payload)), ("archive/version", b"3\n")):
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    (folder / "pytorch_model.bin").write_bytes(buffer.getvalue())


@_kind(OWN)
def _objects_in_an_archive_of_arrays(folder: Path, payload: str) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    (folder / "weights.npz").write_bytes(zipped({"a.npy": buffer.getvalue() + call("builtins", "exec", payload)}))


@_kind(OWN)
def _packed_like_joblib(folder: Path, payload: str) -> None:
    (folder / "model.joblib").write_bytes(zlib.compress(call("builtins", "exec", payload)))


@_kind(REPORTED)
def _oldest_torch(folder: Path, payload: str) -> None:
    parts = {"storages": pickle.dumps(0, 2), "tensors": pickle.dumps(0, 2), "pickle": call("builtins", "exec", payload)}
    (folder / "model.pt").write_bytes(tarred(parts))


@_kind(OWN)
def _name_that_turns_around(folder: Path, payload: str) -> None:
    """The name reads as another on a screen."""
    (folder / "model_\u202esrotcnetefas.bin").write_bytes(torch_zip(call("builtins", "exec", payload)))


def _dtype(about: str, state: bytes) -> bytes:
    return b"cnumpy\ndtype\n" + _text(about) + b"\x85R(K\x03" + _text("|") + state + b"tb"


@_kind(OWN)
def _forged_dtype(folder: Path, payload: str) -> None:
    """All names are on the list; a type with a field of objects that says it holds none reads the numbers of an array
    as places in memory. The payload would stand there."""
    place = _text("a") + b"(cnumpy\ndtype\n" + _text("O8") + b"\x85RK\x00t"
    dtype = _dtype("V8", b"N" + _text("a") + b"\x85}" + place + b"sK\x08K\x01K\x00")
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    content = array + b"(K\x01K\x01\x85" + dtype + b"\x89C\x08" + struct.pack("<Q", 4096) + b"tb"
    (folder / "array.pkl").write_bytes(b"\x80\x03" + content + b".")
    (folder / "notes.txt").write_text(payload)


@_kind(OWN)
def _objects_from_a_buffer(folder: Path, payload: str) -> None:
    """The same by an array that is made around the bytes of the file."""
    content = b"cnumpy\nndarray\n(K\x01\x85" + _text("O") + b"C\x08" + struct.pack("<Q", 4096) + b"t\x81"
    (folder / "array.pkl").write_bytes(b"\x80\x03" + content + b".")
    (folder / "notes.txt").write_text(payload)
