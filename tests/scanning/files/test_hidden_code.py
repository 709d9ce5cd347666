# SPDX-License-Identifier: Apache-2.0
"""Code that hides in settings, layers, graphs, archives and types, each beside an honest twin that passes."""

from __future__ import annotations

import json
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from reticent.scanning.files import code_in_members
from reticent.scanning.files import content_kind as kinds
from reticent.scanning.files.code_in_folder import look as look_for_code
from reticent.scanning.files.content_kind import content_kind
from reticent.scanning.files.graph_files import MOST_DEPTH, onnx_notes, tensorflow_notes
from reticent.scanning.files.object_targets import yaml_notes
from reticent.scanning.files.pickles import look as look_for_pickles
from reticent.scanning.files.symbolic_machine import read_pickle
from reticent.scanning.suspect import Suspect
from reticent.testing.clean_folders import more_clean
from reticent.testing.malicious_settings import field, tarred, zipped
from reticent.workflows.scan import exit_code, scan

HDF5 = b"\x89HDF\r\n\x1a\n"
PROGRAM_OF_WINDOWS = b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64) + b"PE\0\0" + bytes(99)


def layer(name: str, home: str = "keras.layers", config: object = None) -> str:
    return json.dumps({"config": {"layers": [{"module": home, "class_name": name, "config": config}]}})


def target(name: str) -> str:
    return f"net:\n  - _target_: {name}\n"


PAIRS: dict[str, tuple[str, bytes | str, bytes | str]] = {
    "a target of YAML": ("model_config.yaml", target("os.system"), target("torch.nn.Linear")),
    "a function of a known library": ("c.yaml", target("torch.nn.utils.clip_grad_norm_"), target("torch.optim.AdamW")),
    "a target of JSON": ("config.json", '{"a": {"_target_": "os.system"}}', '{"a": {"_target_": "nemo.core.Model"}}'),
    "a target with an escaped name": ("c.yaml", '"\\x5ftarget_": os.system\n', '"a\\tb": 1\n'),
    "settings in a tar archive": (
        "m.nemo",
        tarred({"c.yaml": target("os.system").encode()}),
        tarred({"c.yaml": target("nemo.core.Model").encode()}),
    ),
    "a layer in JSON alone": ("model.json", layer("Lambda"), layer("Dense")),
    "a layer of another module": ("m.keras", zipped({"config.json": layer("run", "subprocess")}), HDF5),
    "a function of Keras": (
        "m.keras",
        zipped({"config.json": layer("function", "keras.config", "enable_unsafe_deserialization")}),
        zipped({"config.json": layer("function", "builtins", "my_loss")}),
    ),
    "an escaped name of a key": ("m.h5", HDF5 + b'{"class\\u005fname": "Lambda"}', HDF5 + b'{"cl\\u00e4ss": 1}'),
    "a module in HDF5": ("m.h5", HDF5 + b'{"module": "os", "class_name": "x"}', HDF5 + layer("Dense").encode()),
    "HDF5 behind other content": ("weights.bin", bytes(1024) + HDF5 + layer("Lambda").encode(), bytes(1030) + HDF5),
    "machine code in an archive": ("m.pt", zipped({"m/x": b"\x7fELF" + bytes(99)}), zipped({"m/x": bytes(99)})),
    "a program of Windows": ("m.bin", PROGRAM_OF_WINDOWS, b"MZ" + bytes(200)),
    "a program in Java": ("m.jar", b"", b""),
    "a shard elsewhere": (
        "model.safetensors.index.json",
        '{"weight_map": {"a": "file://host/a.safetensors"}}',
        '{"weight_map": {"a": "part/a.safetensors"}}',
    ),
    "adapters elsewhere": (
        "adapter_config.json",
        '{"peft_type": "XLORA", "adapters": {"0": "../../other"}}',
        '{"peft_type": "XLORA", "adapters": {"0": "./first"}}',
    ),
    "types of a router": (
        "router_config.json",
        '{"types": {"a": "own.Net"}, "structure": {}}',
        '{"types": {"a": "sentence_transformers.models.Static"}, "structure": {}}',
    ),
}


def notes(folder: Path) -> list[str]:
    suspect = Suspect(folder=folder, cache=folder)
    return [row.note for row in (*look_for_code(suspect), *look_for_pickles(suspect)) if row.score >= 1]


@pytest.mark.parametrize("name", PAIRS)
def test_hidden_code_is_named_and_its_honest_twin_is_not(name: str, tmp_path: Path) -> None:
    file, bad, good = PAIRS[name]
    for place, content in (("bad", bad), ("good", good)):
        (tmp_path / place).mkdir()
        honest = "notes.txt" if place == "good" and file.endswith(".jar") else file
        (tmp_path / place / honest).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert notes(tmp_path / "bad")
    assert notes(tmp_path / "good") == []


def test_an_entry_behind_a_crowd_or_deep_down_is_named(tmp_path: Path) -> None:
    deep: object = {"trust_remote_code": True}
    for _ in range(40):
        deep = {"a": [0, deep]}
    (tmp_path / "config.json").write_text(json.dumps({"crowd": [{"b": 1}] * 3000 + [deep]}))
    assert notes(tmp_path) == ["asks for trust_remote_code"]


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_that_begins_like_a_pickle_is_one_of_safetensors(length: int) -> None:
    head = struct.pack("<Q", length) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    assert head[0] == 0x80
    assert content_kind(head.ljust(600)) == kinds.SAFETENSORS


def test_a_pickle_that_begins_like_such_a_header_is_looked_into(tmp_path: Path) -> None:
    content = b'\x80\x02X\x03\0\0\0\0{"0' + b"(Vtrue\nios\nsystem\n."
    assert content_kind(content) == kinds.SAFETENSORS
    (tmp_path / "model.bin").write_bytes(content)
    assert any("os.system" in note for note in notes(tmp_path))


# ---- types of NumPy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_types_of_numpy_itself_are_not_refused(protocol: int) -> None:
    values = (
        np.zeros(3),
        np.array(["a", 1, None], dtype=object),
        np.zeros(2, dtype=[("a", "f4"), ("b", "S3", (2,))]),
        np.zeros(2, dtype=[("a", "O"), ("b", "f4")]),
        np.array(["2020-01-01"], dtype="M8[ns]"),
        np.zeros(2, dtype="V8"),
        np.str_("a"),
        np.bool_(True),
    )
    for value in values:
        assert read_pickle(pickle.dumps(value, protocol=protocol)).refusals == (), repr(value)


def dtype(about: str, state: bytes) -> bytes:
    return b"cnumpy\ndtype\nV" + about.encode() + b"\n\x85R(K\x03V|\n" + state + b"tb"


OBJECTS, BLIND = b"NNNK\0K\0K\x3f", b"NVa\n\x85}J\0\0\0\0K\0K\0"
FORGED = {
    "fields that say they hold no objects": b"\x80\x02" + dtype("f8", BLIND) + dtype("O8", OBJECTS),
    "objects that say they are none": b"\x80\x02" + dtype("O8", b"NNNK\0K\0K\0"),
    "an identity in place of a type": b"\x80\x02cnumpy.core.multiarray\nscalar\n" + dtype("O8", OBJECTS) + b"K\0\x86R.",
    "a type that another call makes": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cnumpy\ndtype\nNNNtR.",
    "an array around bytes": b"\x80\x02cnumpy\nndarray\n(K\x01\x85VO\nC\x08" + bytes(8) + b"t\x81.",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_types_are_refused(name: str) -> None:
    reading = read_pickle(FORGED[name])
    assert any(refusal.runs for refusal in reading.refusals), reading


# ---- graphs ---------------------------------------------------------------------------------------------------------


def test_graphs_are_read_where_an_operation_stands(tmp_path: Path) -> None:
    node = field(1, b"n") + field(2, b"ReadFile")
    function = field(2, field(2, field(2, field(1, field(3, node)))))
    assert tensorflow_notes(memoryview(function)) == [
        "has the operations ReadFile, by which a graph touches files or calls Python"
    ]
    frozen = field(1, node)
    assert tensorflow_notes(memoryview(frozen))
    entry = field(13, field(1, b"location") + field(2, b"/etc/passwd"))
    constant = field(7, field(1, field(5, field(5, entry))))
    assert onnx_notes(memoryview(constant)) == ["1 tensors lie outside of the folder: '/etc/passwd'"]


@pytest.mark.parametrize(
    "content", [b"\xff" * 40, b"\x3a\x7f", b"\x3b\x00", b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"]
)
def test_what_is_no_graph_is_said(content: bytes) -> None:
    assert all("cannot be read" in note for note in onnx_notes(memoryview(content)))
    assert tensorflow_notes(memoryview(content)) == []


def test_graphs_in_graphs_end() -> None:
    content = b""
    for _ in range(MOST_DEPTH):
        content = _long(1, _long(5, _long(6, content)))
    assert any("too deep" in note for note in onnx_notes(memoryview(_long(7, content))))


def _long(number: int, content: bytes) -> bytes:
    size, rest = len(content), b""
    while size > 127:
        rest += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + rest + bytes([size]) + content


# ---- settings that are made to keep a scan busy, or to end it early ----------------------------------------------


@pytest.mark.parametrize("raw", [b"!" * 60_000, b'"' + b"\\x5f" * 15_000, b'"\\x5f' * 9_000 + b" " * 9_000])
def test_no_settings_are_looked_at_time_and_again(raw: bytes) -> None:
    before = time.process_time()
    assert not list(yaml_notes(raw))
    assert time.process_time() - before < 2  # a pattern that begins anew at each byte takes ten times as long


@pytest.mark.parametrize("raw", [b"a: !!pyth%6Fn/name:x", b"{a:!x!%70ython/y}", b"a!b%41", b'"":"a\\x5F" : 1'])
def test_what_hides_is_seen_wherever_it_begins(raw: bytes) -> None:
    assert list(yaml_notes(raw))


def test_settings_that_are_not_read_to_their_end_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_in_members, "MOST_SETTINGS", 8)
    for name in ("c.yaml", "c.json"):
        ((note, _),) = code_in_members.member_notes(name, memoryview(b'{"a": 1, "b": 2}'))
        assert "16 bytes of settings, which are not read" in note


# ---- arguments of a Trainer -----------------------------------------------------------------------------------------


def test_arguments_of_a_trainer_pass_and_an_added_call_does_not(tmp_path: Path) -> None:
    """A class whose name begins like an instruction once looked like a second pickle within the archive."""
    more_clean()["trainer/arguments"](tmp_path)
    assert exit_code(scan(tmp_path, only=["files"])) == 0
    raw = (tmp_path / "training_args.bin").read_bytes()
    name = b"transformers.training_args_seq2seq\nSeq2SeqTrainingArguments"
    assert name in raw
    evil = b"transformers.training_args_seq2seq\nSeq2SeqTrainingArgumentz"
    (tmp_path / "training_args.bin").write_bytes(raw.replace(name, evil))
    assert exit_code(scan(tmp_path, only=["files"])) == 1
