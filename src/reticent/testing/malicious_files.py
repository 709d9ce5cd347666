# SPDX-License-Identifier: Apache-2.0
"""Malicious model files whose payload writes one file, for tests and benchmarks of scanners. They are never loaded.

Each kind is a folder of its own, made after public reports of files that got past scanners, or of our own.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import numpy as np

Maker = Callable[[Path, str], None]
"""``(folder, payload)``: writes the files; the payload is Python source that writes one file."""
REPORTED, OWN = "reported", "own"
_HARMLESS = pickle.dumps({"weight": [1.0, 2.0]}, protocol=2)
_MAKERS: dict[str, tuple[str, Maker]] = {}


def malicious_kinds() -> Mapping[str, str]:
    """Kind → ``"reported"`` (after public reports) or ``"own"``."""
    return {name: origin for name, (origin, _) in _makers().items()}


def _makers() -> Mapping[str, tuple[str, Maker]]:
    """Those of this file and of the next, which takes its tools from here."""
    more: Mapping[str, tuple[str, Maker]] = import_module("reticent.testing.malicious_settings").MORE
    return {**_MAKERS, **more}


def make_malicious(kind: str, folder: Path, written: Path) -> Path:
    """Make a folder of that kind whose payload would write ``written``; gives the folder.

    Args:
        kind: of `malicious_kinds`.
        folder: where to; it is made.
        written: the file that must never be there.

    Examples:
        >>> import reticent
        >>> folder = make_malicious("exec_in_checkpoint", Path("bad"), Path("ran"))
        >>> reticent.scan(folder, only=["pickles"]).verdict.word, Path("ran").exists()
        ('found', False)
    """
    folder.mkdir(parents=True)
    _makers()[kind][1](folder, f"open({str(written)!r}, 'w').close()")
    return folder


def _kind(origin: str) -> Callable[[Maker], Maker]:
    def register(make: Maker) -> Maker:
        _MAKERS[make.__name__.lstrip("_")] = (origin, make)
        return make

    return register


def call(module: str, name: str, *arguments: str, protocol: int = 4) -> bytes:
    """A pickle that calls a global with texts."""
    texts = b"".join(_text(argument) for argument in arguments)
    named = _text(module) + _text(name) + b"\x93" if protocol >= 4 else f"c{module}\n{name}\n".encode()
    return b"\x80" + bytes([protocol]) + named + b"(" + texts + b"tR."


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def torch_zip(
    content: bytes, *, name: str = "archive", method: int = zipfile.ZIP_STORED, storage: bytes = b""
) -> bytes:
    """A torch checkpoint of the zip form around one pickle, and around the numbers of one tensor."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(f"{name}/data.pkl", content)
        archive.writestr(f"{name}/version", "3\n")
        if storage:
            archive.writestr(f"{name}/data/0", storage)
    return buffer.getvalue()


# ---- after public reports -------------------------------------------------------------------------------------------


@_kind(REPORTED)
def _exec_in_checkpoint(folder: Path, payload: str) -> None:
    (folder / "pytorch_model.bin").write_bytes(torch_zip(call("builtins", "exec", payload)))


@_kind(REPORTED)
def _standard_library_call(folder: Path, payload: str) -> None:
    (folder / "model.pkl").write_bytes(call("timeit", "timeit", "pass", payload, protocol=2))


@_kind(REPORTED)
def _numpy_builtins(folder: Path, payload: str) -> None:
    named = _text("numpy") + _text("__builtins__") + b"\x93"
    getter = _text("operator") + _text("getitem") + b"\x93"
    got = getter + named + _text("exec") + b"\x86R"
    (folder / "model.bin").write_bytes(b"\x80\x04" + got + _text(payload) + b"\x85R.")


@_kind(REPORTED)
def _numpy_evaluator(folder: Path, payload: str) -> None:
    source = f"__import__('builtins').exec({payload!r})"
    (folder / "model.bin").write_bytes(call("numpy.f2py.crackfortran", "myeval", source))


@_kind(REPORTED)
def _no_extension(folder: Path, payload: str) -> None:
    (folder / "weights").write_bytes(call("builtins", "exec", payload))
    (folder / "config.json").write_text("{}")


@_kind(REPORTED)
def _zip_flag(folder: Path, payload: str) -> None:
    raw = bytearray(torch_zip(call("builtins", "exec", payload)))
    central = raw.find(b"PK\x01\x02")
    raw[6] |= 1
    raw[central + 8] |= 1
    (folder / "pytorch_model.bin").write_bytes(bytes(raw))


@_kind(REPORTED)
def _pickle_called_safetensors(folder: Path, payload: str) -> None:
    (folder / "model.safetensors").write_bytes(call("builtins", "exec", payload, protocol=2))


@_kind(REPORTED)
def _second_pickle_appended(folder: Path, payload: str) -> None:
    (folder / "model.pkl").write_bytes(_HARMLESS + call("builtins", "exec", payload))


@_kind(REPORTED)
def _broken_behind_the_call(folder: Path, payload: str) -> None:
    (folder / "model.pkl").write_bytes(call("builtins", "exec", payload)[:-1] + b"\xff\xff\xffX")


@_kind(REPORTED)
def _bin_in_tar(folder: Path, payload: str) -> None:
    content = torch_zip(call("os", "system", "true"), name="inner") + b""
    inner = torch_zip(call("builtins", "exec", payload))
    with tarfile.open(folder / "checkpoint.tar", "w") as archive:
        for name, raw in (("a/readme.bin", content), ("a/pytorch_model.bin", inner)):
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            archive.addfile(entry, io.BytesIO(raw))


@_kind(REPORTED)
def _seven_zip(folder: Path, payload: str) -> None:
    content = call("builtins", "exec", payload)
    (folder / "pytorch_model.bin").write_bytes(b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24) + content)


@_kind(REPORTED)
def _wrong_checksum(folder: Path, payload: str) -> None:
    raw = bytearray(torch_zip(call("builtins", "exec", payload)))
    for mark, place in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        at = raw.find(mark) + place
        raw[at : at + 4] = b"\x00\x00\x00\x00"
    (folder / "pytorch_model.bin").write_bytes(bytes(raw))


@_kind(REPORTED)
def _code_by_auto_map(folder: Path, payload: str) -> None:
    config = {"model_type": "own", "auto_map": {"AutoModel": "modeling_own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text(f"{payload}\n")


@_kind(REPORTED)
def _template_walk(folder: Path, payload: str) -> None:
    walk = "{{ ''.__class__.__mro__[1].__subclasses__()[0].__init__.__globals__['__builtins__']['exec'](" + repr(
        payload
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": f"{walk}) }}}}"}))


# ---- our own --------------------------------------------------------------------------------------------------------


@_kind(OWN)
def _nested_in_a_storage(folder: Path, payload: str) -> None:
    inner = torch_zip(call("builtins", "exec", payload))
    load = _text("torch.storage") + _text("_load_from_bytes") + b"\x93"
    content = b"\x80\x04" + load + b"B" + struct.pack("<I", len(inner)) + inner + b"\x85R."
    (folder / "tensor.pkl").write_bytes(content)


@_kind(OWN)
def _name_from_the_memo(folder: Path, payload: str) -> None:
    names = _text("exec") + b"\x940" + _text("builtins") + b"\x940"
    (folder / "model.bin").write_bytes(b"\x80\x04" + names + b"h\x01h\x00\x93" + _text(payload) + b"\x85R.")


@_kind(OWN)
def _name_made_by_a_call(folder: Path, payload: str) -> None:
    encode = _text("_codecs") + _text("encode") + b"\x93" + _text("exec") + _text("latin1") + b"\x86R"
    content = b"\x80\x04" + _text("builtins") + encode + b"\x93" + _text(payload) + b"\x85R."
    (folder / "model.bin").write_bytes(content)


@_kind(OWN)
def _text_protocol(folder: Path, payload: str) -> None:
    (folder / "notes.txt").write_bytes(b"(V" + payload.encode("raw_unicode_escape") + b"\nibuiltins\nexec\n.")
    (folder / "config.json").write_text("{}")


@_kind(OWN)
def _two_names_in_zip(folder: Path, payload: str) -> None:
    """The central list takes for a raw storage what the local header takes for the pickle."""
    raw = bytearray(torch_zip(call("builtins", "exec", payload)))
    central = raw.find(b"PK\x01\x02") + 46
    raw[central : central + len(b"archive/data.pkl")] = b"archive/data/000"
    (folder / "pytorch_model.bin").write_bytes(bytes(raw))


@_kind(OWN)
def _zip_behind_a_pickle(folder: Path, payload: str) -> None:
    (folder / "model.bin").write_bytes(_HARMLESS + torch_zip(call("builtins", "exec", payload)))


@_kind(OWN)
def _pickle_before_a_zip(folder: Path, payload: str) -> None:
    (folder / "model.bin").write_bytes(call("builtins", "exec", payload) + torch_zip(_HARMLESS))


@_kind(OWN)
def _objects_in_numpy(folder: Path, payload: str) -> None:
    buffer = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(buffer, header)
    (folder / "embeddings.npy").write_bytes(buffer.getvalue() + call("builtins", "exec", payload))


@_kind(OWN)
def _compressed_twice(folder: Path, payload: str) -> None:
    (folder / "model.bin").write_bytes(gzip.compress(gzip.compress(call("builtins", "exec", payload))))


@_kind(OWN)
def _fourth_pickle_of_legacy(folder: Path, payload: str) -> None:
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    head = b"".join(pickle.dumps(part, protocol=2) for part in parts)
    content = head + call("builtins", "exec", payload, protocol=2) + pickle.dumps([], protocol=2)
    (folder / "pytorch_model.bin").write_bytes(content)


@_kind(OWN)
def _harmless_class_called(folder: Path, payload: str) -> None:
    """A class on the list that may only be filled is called, and an allowed name is handed to a call."""
    rebuild = _text("torch._tensor") + _text("_rebuild_from_type_v2") + b"\x93"
    load = _text("torch.storage") + _text("_load_from_bytes") + b"\x93"
    inner = call("builtins", "exec", payload)
    content = b"\x80\x04" + rebuild + b"(" + load + b"N(C" + bytes([len(inner) % 256]) + inner[: len(inner) % 256]
    (folder / "model.bin").write_bytes(content + b"tNtR.")


@_kind(OWN)
def _extension_code(folder: Path, payload: str) -> None:
    (folder / "model.pkl").write_bytes(b"\x80\x02\x82\x07" + _text(payload) + b"\x85R.")


@_kind(OWN)
def _yaml_object(folder: Path, payload: str) -> None:
    (folder / "hparams.yaml").write_text(f"optimizer: !!python/object/apply:builtins.exec [{json.dumps(payload)}]\n")
    (folder / "config.json").write_text("{}")
