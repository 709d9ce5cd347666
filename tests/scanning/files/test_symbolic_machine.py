# SPDX-License-Identifier: Apache-2.0
"""The machine resolves the names that an unpickler asks for, and raises nothing on any bytes."""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.scanning.files.allowed_globals import ALLOWED, USES
from reticent.scanning.files.pickle_streams import read_stream, unmarked
from reticent.scanning.files.pickle_values import PickleReading
from reticent.scanning.files.symbolic_machine import read_pickle
from reticent.testing.malicious_files import call

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(collections.OrderedDict, st.dictionaries(st.text(max_size=3), inner, max_size=3))
        | st.sets(st.integers(), max_size=4)
        | st.builds(bytearray, st.binary(max_size=5))
    ),
    max_leaves=20,
)


class _Recorder(pickle.Unpickler):
    """The slow twin: a real unpickler that writes down what it is asked for, and finds only a harmless stand-in."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), fix_imports=False)
        self.asked: dict[str, None] = {}

    def find_class(self, module: str, name: str) -> Any:
        self.asked[f"{module}.{name}"] = None
        return _StandIn


class _StandIn(dict[Any, Any]):
    def __init__(self, *args: Any) -> None:
        super().__init__()

    def add(self, value: Any) -> None: ...
    def __hash__(self) -> int:
        return 0


@given(VALUES, st.integers(0, 5))
def test_the_names_are_those_that_an_unpickler_asks_for(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol=protocol)
    twin = _Recorder(content)
    twin.load()
    reading = read_pickle(content)
    assert (reading.broken, reading.end) == ("", len(content))
    assert reading.names == tuple(twin.asked)
    assert reading.refusals == ()


def harmful(protocol: int) -> bytes:
    return pickle.dumps([1, {"a": Reducing()}, "text" * 100], protocol=protocol)


class Reducing:
    def __reduce__(self) -> Any:
        return eval, ("1 + 1",)


@given(st.integers(0, 5), st.data())
def test_mutated_and_cut_pickles_raise_nothing(protocol: int, data: st.DataObject) -> None:
    content = bytearray(harmful(protocol))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    reading = read_pickle(bytes(content))
    assert isinstance(reading, PickleReading)
    assert reading.end <= len(content)
    read_stream(memoryview(bytes(content)), "file")
    unmarked(memoryview(bytes(content)), "file")


@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing(content: bytes) -> None:
    for start in (b"", b"\x80\x02", b"\x80\x04\x95", b"(c"):
        assert isinstance(read_pickle(start + content), PickleReading)


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_cut_does_not_hide_a_call_that_comes_before_it(cut: int) -> None:
    content = call("os", "system", "true")[:-1] + b"]" * 60
    assert any(
        refusal.name == "os.system" and refusal.runs for refusal in read_pickle(content[: len(content) - cut]).refusals
    )


CASES = {
    "REDUCE": (call("os", "system", "x"), "os.system", True),
    "GLOBAL alone": (b"\x80\x02cos\nsystem\n.", "os.system", False),
    "INST": (b"(Vx\nios\nsystem\n.", "os.system", True),
    "OBJ": (b"(cos\nsystem\nVx\no.", "os.system", True),
    "NEWOBJ": (b"\x80\x02cfoo\nBar\n)\x81.", "foo.Bar", True),
    "NEWOBJ_EX": (b"\x80\x04cfoo\nBar\n)}\x92.", "foo.Bar", True),
    "from the memo": (
        b"\x80\x04X\x06\x00\x00\x00system\x94X\x02\x00\x00\x00os\x9400h\x01h\x00\x93.",
        "os.system",
        False,
    ),
    "popped before it is called": (b"\x80\x02cos\nsystem\n0N.", "os.system", False),
    "dotted": (b"\x80\x04X\x05\x00\x00\x00torchX\x0c\x00\x00\x00os.getloginx\x93.", "torch.os.getloginx", False),
    "a number for a name": (b"\x80\x04K\x01K\x02\x93)R.", "", True),
    "a name that a call makes": (b"\x80\x04X\x02\x00\x00\x00osccollections\nOrderedDict\n)R\x93.", "", True),
    "the outcome of a call is called": (b"\x80\x02ccollections\nOrderedDict\n)R)R.", "", True),
    "extension": (b"\x80\x02\x82\x01.", "extension 1", True),
    "a dtype is called": (b"\x80\x02ctorch\nfloat32\n)R.", "torch.float32", True),
    "a Trainer's class is called": (
        b"\x80\x02ctransformers.training_args\nTrainingArguments\n)R.",
        "transformers.training_args.TrainingArguments",
        True,
    ),
    "another codec": (b"\x80\x02c_codecs\nencode\n(VcHJ\nVzlib\ntR.", "_codecs.encode", True),
    "a class is changed itself": (b"\x80\x02ctorch\nTensor\n}b.", "torch.Tensor", True),
    "a loader of the list is handed on": (
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch.storage\n_load_from_bytes\nNNNtR.",
        "torch.storage._load_from_bytes",
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_way_to_a_name_is_refused(case: str) -> None:
    content, name, runs = CASES[case]
    refusals = read_pickle(content).refusals
    assert (name, runs) in {(refusal.name, refusal.runs) for refusal in refusals}, refusals


def test_content_that_is_unpickled_by_a_call_is_handed_over() -> None:
    inner = call("os", "system", "x")
    content = b"\x80\x03ctorch.storage\n_load_from_bytes\nC" + bytes([len(inner)]) + inner + b"\x85R."
    reading = read_pickle(content)
    assert [bytes(part) for part in reading.nested] == [inner]
    assert reading.refusals == ()


def test_memory_and_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from reticent.scanning.files import symbolic_machine

    monkeypatch.setattr(symbolic_machine, "MOST_STEPS", 1000)
    assert "more than 1000 instructions" in read_pickle(b"\x80\x02" + b"]" * 5000).broken
    monkeypatch.setattr(symbolic_machine, "MOST_HELD", 100)
    assert "fills stack and memo" in read_pickle(b"\x80\x02" + b"]" * 500).broken
    assert "fills stack and memo" in read_pickle(b"\x80\x02" + b"(" * 500).broken
    assert "fills stack and memo" in read_pickle(b"\x80\x02" + (b"]" * 60 + b"(") * 9).broken
    assert "there is no mark" in read_pickle(b"\x80\x02" + b"(]]1" * 200 + b"0").broken


def test_the_list_is_short_and_each_use_is_known() -> None:
    groups = {name for name in ALLOWED if "Storage" not in name and "DType" not in name and ALLOWED[name] == "call"}
    assert len(groups) <= 60
    assert set(ALLOWED.values()) <= set(USES)
    for name in ("builtins.eval", "builtins.getattr", "os.system", "torch.load", "numpy.load", "functools.partial"):
        assert name not in ALLOWED
