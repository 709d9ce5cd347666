# SPDX-License-Identifier: Apache-2.0
"""Values of the symbolic machine, and what it says of a pickle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Name:
    """A global by module and name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Unknown:
    """A value that plays no part: a number, a container, a part of a tensor."""


@dataclass(frozen=True)
class Outcome:
    """The result of a call, or an instance, of ``callee``; ``about``: its first argument, where that is a text."""

    callee: Name | None
    about: str = ""


UNKNOWN = Unknown()
NOTHING = Unknown()
"""Python's None."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A thing that a pickle may not do.

    Args:
        name: of the global, ``module.name``; empty where it cannot be told.
        why: in words.
        runs: whether loading the file calls it.
        at: byte of the instruction.
        handed: whether it is put into a value, from where other code may call it.
    """

    name: str
    why: str
    runs: bool
    at: int
    handed: bool = False


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A tensor's storage that the pickle says lies outside of it: its key, and its bytes where they are known."""

    key: str
    bytes: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class PickleReading:
    """The outcome of one pickle.

    Args:
        refusals: things that it may not do, in their order.
        end: byte behind its last instruction that could be read.
        broken: why it could not be read to its end; empty where it could.
        given_up: whether a bound of this reader is the reason, and a loader would read on.
        nested: content that is unpickled by a call in it.
        storages: of tensors, in the order in which they are named.
        top: what it stands for, if that is a plain value or a name.
        names: all globals, in their order.
    """

    refusals: tuple[Refusal, ...]
    end: int
    broken: str
    given_up: bool = False
    nested: tuple[memoryview, ...]
    storages: tuple[Storage, ...]
    top: Any
    names: tuple[str, ...]
