# SPDX-License-Identifier: Apache-2.0
"""A machine that runs a pickle's instructions on symbols: names stay names, calls stay calls, nothing is looked up.

It keeps stack, marks and memo as an unpickler does, so it knows which name an instruction means even where the parts of
the name come from the memo, and which name is called with what. What it cannot resolve is refused as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from reticent.scanning.files.allowed_globals import ALLOWED, element_bytes
from reticent.scanning.files.dtype_states import DTYPE, FORGED, DtypeStates, argument_fault, is_dtype
from reticent.scanning.files.opcodes import OPCODES, Unreadable
from reticent.scanning.files.pickle_texts import (
    escaped_text,
    line_key,
    long_number,
    python_2_text,
    quoted_text,
    text_of,
    whole_number,
)
from reticent.scanning.files.pickle_values import NOTHING, UNKNOWN, Name, Outcome, PickleReading, Refusal, Storage

MOST_STEPS = 20_000_000
"""Instructions of one pickle. The largest checkpoints have some hundred thousand."""
MOST_REFUSED = 20
"""Refusals of one pickle that are listed; calls have as many places of their own, so that no crowd hides one."""
MOST_NAMES = 100_000
"""Names that are kept for who asks what a pickle names; each of them is looked at all the same."""
MOST_HELD = 4_000_000
"""Entries of stack and memo together, against streams that only fill memory."""
_CODECS = ("latin1", "latin-1", "utf-8", "utf8")
_NEVER_HANDED_ON = ("instance", "enum", "codec", "nested")
"""Uses of names that may only be called: an instance that gets one as an attribute may call it with anything."""
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(content: bytes | memoryview, at: int = 0) -> PickleReading:
    """Run the pickle that begins at byte ``at``, symbolically. It raises nothing, whatever the bytes are.

    Examples:
        >>> import pickle
        >>> reading = read_pickle(pickle.dumps({"a": [1, 2]}))
        >>> reading.refusals, reading.broken
        ((), '')
        >>> harmful = b"cos\\nsystem\\n(S'true'\\ntR."
        >>> [(refusal.name, refusal.runs) for refusal in read_pickle(harmful).refusals]
        [('os.system', True)]
    """
    return _Machine(view=memoryview(content), at=at).run()


class _TooMuch(Unreadable):
    """A bound of this machine, which no loader has."""


@dataclass(kw_only=True)
class _Machine:
    view: memoryview
    at: int
    stack: list[Any] = field(default_factory=list)
    marks: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    refusals: dict[tuple[str, str], Refusal] = field(default_factory=dict)
    nested: dict[int, memoryview] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    dtypes: DtypeStates = field(default_factory=DtypeStates)
    start: int = 0
    """Byte of the instruction that is run."""
    below: int = 0
    """Marks, and values below them."""

    def run(self) -> PickleReading:
        broken, top, given_up = "", None, False
        try:
            top = self._run()
        except Unreadable as error:
            broken, given_up = str(error), isinstance(error, _TooMuch)
        return PickleReading(
            refusals=tuple(self.refusals.values()),
            end=self.at,
            broken=broken,
            given_up=given_up,
            nested=tuple(self.nested.values()),
            storages=tuple(self.storages.values()),
            top=top,
            names=tuple(self.names),
        )

    def _run(self) -> Any:
        view, size = self.view, len(self.view)
        for _ in range(MOST_STEPS):
            if self.at >= size:
                raise Unreadable(f"it ends at byte {size}, before its last instruction")
            self.start = self.at
            known = OPCODES.get(view[self.at])
            if known is None:
                raise Unreadable(f"byte {self.at} ({view[self.at]:#04x}) is no instruction")
            name, reader = known
            argument, self.at = reader(view, self.at + 1)
            if name == "STOP":
                return self._pop()
            _DO[name](self, argument)
            if len(self.stack) + len(self.memo) + self.below > MOST_HELD:
                raise _TooMuch(f"it fills stack and memo with more than {MOST_HELD} values")
        raise _TooMuch(f"it has more than {MOST_STEPS} instructions")

    # ---- stack ------------------------------------------------------------------------------------------------------

    def _pop(self) -> Any:
        if not self.stack:
            raise Unreadable(f"the stack is empty at byte {self.start}")
        return self.stack.pop()

    def _top(self) -> Any:
        if not self.stack:
            raise Unreadable(f"the stack is empty at byte {self.start}")
        return self.stack[-1]

    def _to_mark(self) -> list[Any]:
        if not self.marks:
            raise Unreadable(f"there is no mark at byte {self.start}")
        above, self.stack = self.stack, self.marks.pop()
        self.below -= len(self.stack) + 1
        return above

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.below += len(self.stack) + 1
        self.stack = []

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._to_mark()

    def remember(self, key: int) -> None:
        self.memo[key] = self._top()

    def recall(self, key: int) -> None:
        if key not in self.memo:
            raise Unreadable(f"the memo has no entry {key} at byte {self.start}")
        self.push(self.memo[key])

    # ---- names and calls --------------------------------------------------------------------------------------------

    def refuse(self, name: str, why: str, *, runs: bool) -> None:
        """List a refusal; a call of a name replaces its mere mention."""
        earlier = self.refusals.get((name, why))
        if earlier is None and len(self.refusals) >= MOST_REFUSED * (1 + runs):
            return
        if earlier is None or (runs and not earlier.runs):
            self.refusals[name, why] = Refusal(name=name, why=why, runs=runs, at=self.start)

    def hand_on(self, values: Iterable[Any]) -> None:
        """Look at values that become part of another: a name among them may be called from there."""
        for value in values:
            if not isinstance(value, Name):
                continue
            whole = str(value)
            if ALLOWED.get(whole) in _NEVER_HANDED_ON:
                self.refuse(whole, "is handed on as a value, from where it may be called with anything", runs=True)
            elif (listed := self.refusals.get((whole, NOT_LISTED))) is not None:
                self.refusals[whole, NOT_LISTED] = replace(listed, handed=True)

    def refer(self, module: Any, name: Any) -> None:
        """Push a global."""
        if not (isinstance(module, str) and isinstance(name, str)):
            self.refuse("", "a name is put together while it is loaded, and cannot be resolved", runs=True)
            self.push(Name("", ""))
            return
        whole = Name(module, name)
        if len(self.names) < MOST_NAMES:
            self.names[str(whole)] = None
        if str(whole) not in ALLOWED:
            self.refuse(str(whole), NOT_LISTED, runs=False)
        self.push(whole)

    def call(self, callee: Any, arguments: Any, *, new: bool = False) -> None:
        """Push the outcome of a call of ``callee``; ``new`` makes an instance without its ``__init__``."""
        if not isinstance(callee, Name):
            self.refuse("", "what is called is the outcome of another call, or no name", runs=True)
            self.push(Outcome(None))
            return
        use = ALLOWED.get(str(callee))
        if use is None and callee.module:
            self.refuse(str(callee), NOT_LISTED, runs=True)
        elif use is not None:
            self._check_use(str(callee), use, arguments, new=new)
        self.push(Outcome(callee, self._about(str(callee), arguments)))

    def _about(self, name: str, arguments: Any) -> str:
        """The text that a call begins with; of calls that make or hand on types it is looked at."""
        values = arguments if isinstance(arguments, tuple) else ()
        if fault := argument_fault(name, values):
            self.refuse(name, fault, runs=True)
        first = values[0] if values else None
        about = first if isinstance(first, str) else ""
        if name == DTYPE:
            self.dtypes.made(about)
            self._refuse_forged()
        return about

    def _refuse_forged(self) -> None:
        if self.dtypes.is_forged:
            self.refuse(DTYPE, FORGED, runs=True)

    def _check_use(self, name: str, use: str, arguments: Any, *, new: bool) -> None:
        values = arguments if isinstance(arguments, tuple) else None
        if values is None:
            self.refuse(name, "is called with arguments that are put together while it is loaded", runs=True)
        for value in values or ():
            if isinstance(value, Name) and ALLOWED.get(str(value)) in _NEVER_HANDED_ON:
                self.refuse(str(value), f"is handed to {name}, which may call it", runs=True)
        if use == "nested":
            content = values[0] if values else None
            if isinstance(content, memoryview):
                self.nested.setdefault(id(content), content)  # from the memo it can be called a million times
            else:
                self.refuse(name, "unpickles content that cannot be resolved", runs=True)
        elif use == "instance" and not new:
            self.refuse(name, "is called, and may only be filled with plain fields", runs=True)
        elif use == "value":
            self.refuse(name, "is called, and may only stand there", runs=True)
        elif use == "codec" and not (values and len(values) == 2 and values[1] in _CODECS):
            self.refuse(name, "is called with another codec than Latin-1 or UTF-8", runs=True)
        elif use == "enum" and not (values and len(values) == 1 and isinstance(values[0], (str, int))):
            self.refuse(name, "is called with something else than one plain word", runs=True)

    def fill(self, _: Any) -> None:
        """BUILD: state into the object below it."""
        state = self._pop()
        self.hand_on((state,))
        target = self._top()
        if isinstance(target, Name):
            self.refuse(str(target), "is changed itself, not an instance of it", runs=True)
        elif is_dtype(target):
            self.dtypes.filled(target.about, state)
            self._refuse_forged()

    def extend(self, values: int | None) -> None:
        """Put values into the container below them: ``values`` of them, or all down to the mark."""
        self.hand_on(self._to_mark() if values is None else [self._pop() for _ in range(values)])
        target = self._top()
        if isinstance(target, Name):
            self.refuse(str(target), "is changed itself, not an instance of it", runs=True)

    def persist(self, identity: Any) -> None:
        """Push what lies outside of the pickle: for torch a storage."""
        if isinstance(identity, tuple) and len(identity) >= 5 and identity[0] == "storage":
            kind, key, count = identity[1], identity[2], identity[4]
            known = element_bytes(kind.name) if isinstance(kind, Name) else None
            size = count * known if known and isinstance(count, int) and count >= 0 else None
            if isinstance(key, str):
                self.storages.setdefault(key, Storage(key=key, bytes=size))
        self.push(UNKNOWN)


NOT_LISTED = "is not on the list of harmless names"

Step = Callable[[_Machine, Any], None]


def _pushing(value: Callable[[Any], Any]) -> Step:
    return lambda machine, argument: machine.push(value(argument))


def _tuple_of(size: int) -> Step:
    def run(machine: _Machine, _: Any) -> None:
        values = [machine._pop() for _ in range(size)]
        _push_tuple(machine, tuple(reversed(values)))

    return run


def _push_tuple(machine: _Machine, values: tuple[Any, ...]) -> None:
    machine.hand_on(values)
    machine.push(values)


def _collection(machine: _Machine, _: Any) -> None:
    machine.hand_on(machine._to_mark())
    machine.push(UNKNOWN)


def _drop(machine: _Machine, _: Any) -> None:
    machine._to_mark()


def _names_of(lines: tuple[bytes, bytes]) -> tuple[Any, Any]:
    return text_of(lines[0]), text_of(lines[1])


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine._pop(), machine._pop()
    machine.refer(module, name)


def _inst(machine: _Machine, lines: tuple[bytes, bytes]) -> None:
    arguments = tuple(machine._to_mark())
    machine.refer(*_names_of(lines))
    machine.call(machine._pop(), arguments)


def _obj(machine: _Machine, _: Any) -> None:
    values = machine._to_mark()
    if not values:
        raise Unreadable(f"nothing is called at byte {machine.start}")
    machine.call(values[0], tuple(values[1:]))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, callee = machine._pop(), machine._pop()
    machine.call(callee, arguments)


def _new(machine: _Machine, _: Any) -> None:
    arguments, callee = machine._pop(), machine._pop()
    machine.call(callee, arguments, new=True)


def _new_with_keywords(machine: _Machine, _: Any) -> None:
    machine._pop()
    _new(machine, None)


def _extension(machine: _Machine, code: int) -> None:
    machine.refuse(f"extension {code}", "is a name by number, which only the loading program knows", runs=True)
    machine.push(Name("", ""))


def _protocol(machine: _Machine, version: int) -> None:
    if version > 5:
        raise Unreadable(f"it is of protocol {version}")


_UNKNOWN: Step = _pushing(lambda _: UNKNOWN)
_DO: dict[str, Step] = {
    **dict.fromkeys(("FLOAT", "BINFLOAT", "NEXT_BUFFER"), _UNKNOWN),
    **dict.fromkeys(("NEWTRUE", "NEWFALSE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), _UNKNOWN),
    "NONE": _pushing(lambda _: NOTHING),
    **dict.fromkeys(("BININT", "BININT1", "BININT2"), _pushing(lambda number: number)),
    **dict.fromkeys(("INT", "LONG"), _pushing(whole_number)),
    **dict.fromkeys(("LONG1", "LONG4"), _pushing(long_number)),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _pushing(text_of)),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _pushing(python_2_text)),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _pushing(lambda view: view)),
    **dict.fromkeys(("FRAME", "READONLY_BUFFER"), lambda machine, _: None),
    **dict.fromkeys(("LIST", "DICT", "FROZENSET"), _collection),
    **dict.fromkeys(("APPENDS", "SETITEMS", "ADDITEMS"), lambda machine, _: machine.extend(None)),
    **dict.fromkeys(("GET",), lambda machine, line: machine.recall(line_key(line))),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.remember),
    **{name: _tuple_of(size) for name, size in _TUPLES.items()},
    "STRING": _pushing(quoted_text),
    "UNICODE": _pushing(escaped_text),
    "EMPTY_TUPLE": _pushing(lambda _: ()),
    "TUPLE": lambda machine, _: _push_tuple(machine, tuple(machine._to_mark())),
    "APPEND": lambda machine, _: machine.extend(1),
    "SETITEM": lambda machine, _: machine.extend(2),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _drop,
    "DUP": lambda machine, _: machine.push(machine._top()),
    "PUT": lambda machine, line: machine.remember(line_key(line)),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "GLOBAL": lambda machine, lines: machine.refer(*_names_of(lines)),
    "STACK_GLOBAL": _stack_global,
    "EXT": _extension,
    "REDUCE": _reduce,
    "NEWOBJ": _new,
    "NEWOBJ_EX": _new_with_keywords,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": _Machine.fill,
    "PERSID": lambda machine, line: machine.persist(text_of(line)),
    "BINPERSID": lambda machine, _: machine.persist(machine._pop()),
    "PROTO": _protocol,
}
