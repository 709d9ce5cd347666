# SPDX-License-Identifier: Apache-2.0
"""Types of NumPy arrays that a pickle puts together: numbers of the file must not be read as addresses of objects.

NumPy takes a type's flags from the pickle. A type that holds objects and says that it holds none makes NumPy read the
bytes of an array as places in memory where objects lie, and a program that looks at the array follows them. Each name
in such a pickle is harmless, so the state of each type is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from reticent.scanning.files.pickle_values import NOTHING, Name, Outcome

DTYPE = "numpy.dtype"
_NUMBERS = re.compile(r"[<>=|]?[biufcmMSUV?]\d*(\[\w+\])?")
_HOLDS_OBJECTS = 1
"""The first flag of a type, with which NumPy refuses to read bytes as objects."""
_SUBARRAY, _FIELD_NAMES, _FIELDS, _FLAGS = 2, 3, 4, 7
FORGED = "is put together so that numbers of the file would be read as places of objects"
NOT_OF_NUMBERS = "is called with a type that is not plainly one of numbers"
NOT_A_TENSOR = "is called to call something else than what rebuilds a tensor"


@dataclass(kw_only=True)
class DtypeStates:
    """The types that one pickle has made so far.

    Args:
        objects: whether there is a type of objects, or one that cannot be told.
        blind: whether there is a type of fields that says that it holds no objects.
    """

    objects: bool = False
    blind: bool = False

    def made(self, about: str) -> None:
        """A type is made from the text ``about``."""
        self.objects = self.objects or not is_of_numbers(about)

    def filled(self, about: str, state: Any) -> None:
        """A type that was made from ``about`` gets a state."""
        is_whole = isinstance(state, tuple) and len(state) > _FLAGS and isinstance(state[_FLAGS], int)
        says_objects = is_whole and bool(state[_FLAGS] & _HOLDS_OBJECTS)
        plain = is_whole and all(state[place] is NOTHING for place in (_SUBARRAY, _FIELD_NAMES, _FIELDS))
        if not says_objects and not (plain and is_of_numbers(about)):
            self.blind = True

    @property
    def is_forged(self) -> bool:
        """True where bytes could be read as objects."""
        return self.objects and self.blind


def is_of_numbers(about: str) -> bool:
    """True for the text of a type of numbers, words or bytes.

    >>> is_of_numbers("<f8"), is_of_numbers("M8[ns]"), is_of_numbers("O8"), is_of_numbers("")
    (True, True, False, False)
    """
    return _NUMBERS.fullmatch(about) is not None


def is_dtype(value: Any) -> bool:
    """True for the outcome of a call that makes a type."""
    return isinstance(value, Outcome) and value.callee is not None and str(value.callee).startswith(DTYPE)


def argument_fault(name: str, arguments: tuple[Any, ...]) -> str:
    """Why a listed function may not be called with these arguments; empty where it may.

    NumPy's ``scalar`` hands back whatever it is given beside a type of objects, and torch's
    ``_rebuild_from_type_v2`` calls its first argument: through both a type could be filled unseen.
    """
    first: Any = arguments[0] if arguments else None
    if name.endswith(".multiarray.scalar"):
        is_right = is_dtype(first) and (str(first.callee) != DTYPE or is_of_numbers(first.about))
        return "" if is_right else NOT_OF_NUMBERS
    if name == "torch._tensor._rebuild_from_type_v2":
        is_right = isinstance(first, Name) and str(first).startswith("torch._utils.")
        return "" if is_right else NOT_A_TENSOR
    return ""
