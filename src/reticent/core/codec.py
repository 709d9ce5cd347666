# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses as plain JSON values and back, by their types alone.

==========================================  ===========================================================================
type of a field                             in JSON
==========================================  ===========================================================================
a dataclass                                 an object; a field with ``metadata=FLAT`` gives its fields to the object
``tuple[T, ...]``, ``tuple[A, B]``          an array
``dict[str, T]``                            an object, keys in their order
``dict[str, Any]``                          free-form: what JSON cannot hold becomes a string; ``SORTED``: keys sorted
``Literal``, an enum, ``str``, ``bool``     as they are
``int``, ``float``                          a number, never NaN
``Annotated[float, NullIs(x)]``             ``null`` stands for the infinity ``x``, since JSON has none
``Annotated[T, InRange(…), OneOf(…), …]``    as ``T``; what does not keep to it is refused when read
``T | None``, a union                       ``null``, or the first alternative that fits
==========================================  ===========================================================================

The marks are those of `reticent.core.field_types`; `reticent.core.json_schema` makes the schema of the same types.
Properties that a class names in ``derived`` are written for other tools, and not read.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from reticent.core.field_types import SORTED, AtLeast, InRange, NullIs, OneOf

T = TypeVar("T")


class Mismatch(ValueError):
    """Content that is not of the type that it is read as; ``place`` is where, e.g. ``"findings/3/lo"``."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place or 'the top level'}: {why}")
        self.place, self.why = place, why


def encode(value: Any, kind: Any = None) -> Any:
    """``value`` as dicts, lists, strings and numbers.

    Args:
        value: of a dataclass, or of ``kind``.
        kind: the type that it is declared as; its own where none is given.

    >>> from reticent.core.finding import ThreatModel
    >>> content = encode(ThreatModel(access="text", needs=("a reference model",)))
    >>> content
    {'access': 'text', 'needs': ['a reference model']}
    >>> decode(ThreatModel, content).needs
    ('a reference model',)
    """
    shape, bare, marks, arguments = _form(type(value) if kind is None else kind)
    if any(isinstance(mark, NullIs) and mark.value == value for mark in marks):
        return None
    if shape == "any":
        return _free(value)
    if shape == "union":
        return None if value is None else encode(value, next(kind for kind in arguments if _is_of(value, kind)))
    if shape == "class":
        return _encode_class(value, bare)
    if shape == "array":
        return [encode(entry, inner) for entry, inner in zip(value, _inner(arguments, len(value)), strict=True)]
    if shape == "object" and arguments[1] is Any:
        return _free(value, in_order=SORTED not in marks)
    if shape == "object":
        return {str(key): encode(entry, arguments[1]) for key, entry in value.items()}
    return value.value if isinstance(value, Enum) else value


def _encode_class(value: Any, kind: Any) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for field, hint in parts(kind):
        inner = encode(getattr(value, field.name), hint)
        content |= inner if field.metadata.get("flat") else {field.name: inner}
    return content | {name: getattr(value, name) for name in getattr(kind, "derived", ())}


def decode(kind: type[T], content: Any, place: str = "") -> T:
    """The value of type ``kind`` that `encode` made ``content`` of. Fields that are missing take their defaults.

    Raises:
        Mismatch: the content is of another shape, or a number is out of its range.
        ValueError: the class itself refuses the values.
    """
    return _decode(kind, content, place)


def _decode(kind: Any, content: Any, place: str, more: tuple[Any, ...] = ()) -> Any:
    """``more``: marks of a union that the type is an alternative of."""
    shape, bare, its, arguments = _form(kind)
    marks = its + more
    for mark in marks:
        if isinstance(mark, NullIs) and content is None:
            return mark.value
    if shape == "any":
        return content
    if shape == "union":
        return _decode_union(arguments, marks, content, place)
    if shape == "class":
        return _decode_class(bare, content, place)
    if shape == "array":
        return _decode_array(arguments, marks, content, place)
    if shape == "object":
        if not isinstance(content, dict):
            raise Mismatch(place, f"is no object but {_shown(content)}")
        return {key: _decode(arguments[1], entry, f"{place}/{key}") for key, entry in content.items()}
    return _decode_word(bare, marks, content, place)


def _decode_array(arguments: tuple[Any, ...], marks: tuple[Any, ...], content: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(content, list):
        raise Mismatch(place, f"is no array but {_shown(content)}")
    length = next((mark.length for mark in marks if isinstance(mark, AtLeast)), 0)
    if len(content) < length:
        raise Mismatch(place, f"has {len(content)} entries, needs {length}")
    if Ellipsis not in arguments and len(content) != len(arguments):
        raise Mismatch(place, f"has {len(content)} entries, needs {len(arguments)}")
    bare, its = unmarked(arguments[0])
    if Ellipsis in arguments and bare in (float, int, str):  # curves are long: no place is made for each number
        number = next((i for i, entry in enumerate(content) if _refused(bare, its, entry)), None)
        if number is not None:
            raise Mismatch(f"{place}/{number}", _refused(bare, its, content[number]))
        return tuple(content)
    pairs = zip(_inner(arguments, len(content)), content, strict=True)
    return tuple(_decode(kind, entry, f"{place}/{i}") for i, (kind, entry) in enumerate(pairs))


def _decode_class(kind: Any, content: Any, place: str) -> Any:
    if not isinstance(content, Mapping):
        raise Mismatch(place, f"is no object but {_shown(content)}")
    given: dict[str, Any] = {}
    names = set(getattr(kind, "derived", ()))
    for field, hint in parts(kind):
        inner, _ = unmarked(hint)
        if field.metadata.get("flat"):
            its = flat_names(inner)
            names |= its
            given[field.name] = _decode(hint, {key: content[key] for key in content if key in its}, place)
            continue
        names.add(field.name)
        if field.name in content:
            given[field.name] = _decode(hint, content[field.name], f"{place}/{field.name}".lstrip("/"))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise Mismatch(place, f"{field.name!r} is missing")
    unknown = sorted(str(key) for key in content if key not in names)
    if unknown:
        raise Mismatch(place, f"has unknown fields ({', '.join(unknown)[:200]}); a newer reticent may know them")
    return kind(**given)


def _decode_union(alternatives: tuple[Any, ...], marks: tuple[Any, ...], content: Any, place: str) -> Any:
    if content is None and type(None) in alternatives:
        return None
    refused: list[Mismatch] = []
    for kind in alternatives:
        if kind is type(None):
            continue
        try:
            return _decode(kind, content, place, marks)
        except Mismatch as error:
            refused.append(error)
    raise max(refused, key=lambda error: error.place.count("/"))


def _decode_word(bare: Any, marks: tuple[Any, ...], content: Any, place: str) -> Any:
    if isinstance(bare, type) and issubclass(bare, Enum):
        words = {entry.value: entry for entry in bare}
        if not isinstance(content, str) or content not in words:
            raise Mismatch(place, f"{_shown(content)} is not one of {list(words)}")
        return words[content]
    refused = _refused(bare, marks, content)
    if refused:
        raise Mismatch(place, refused)
    return content


def _refused(bare: Any, marks: tuple[Any, ...], content: Any) -> str:
    """The reason that it is no number, text or truth of this type; empty: it is one."""
    if get_origin(bare) is Literal:
        fits = content in get_args(bare)
        return "" if fits else f"{_shown(content)} is not one of {', '.join(map(str, get_args(bare)))}"
    if bare is int or bare is float:
        number = isinstance(content, int | float) and not isinstance(content, bool)
        if not number or not math.isfinite(float_of(content)):
            return f"is no finite number but {_shown(content)}"
        if bare is int and not float_of(content).is_integer():
            return f"is no whole number but {_shown(content)}"
    elif not isinstance(content, bare):
        return f"is no {bare.__name__} but {_shown(content)}"
    for mark in marks:
        if isinstance(mark, InRange) and not mark.holds(content):
            return f"{_shown(content)} is out of its range"
        if isinstance(mark, OneOf) and content not in mark.names:
            return f"{_shown(content)} is not one of {', '.join(mark.names)}"
    return ""


def _form(kind: Any) -> tuple[str, Any, tuple[Any, ...], tuple[Any, ...]]:
    """``(its shape, the type without marks, its marks, the types within it)``; to ask a type takes long, so what it
    answered is remembered. By identity: ``A | B`` equals ``B | A``, and which comes first is tried first."""
    entry = _FORMS.get(id(kind))
    if entry is not None:
        return entry[1]
    bare, marks = unmarked(kind)
    shape = "any" if bare is Any else "union" if is_union(bare) else "class" if is_dataclass(bare) else ""
    shape = shape or {tuple: "array", dict: "object"}.get(get_origin(bare), "word")
    if len(_FORMS) >= _MOST_FORMS:
        _FORMS.clear()
    form = shape, bare, marks, get_args(bare)
    _FORMS[id(kind)] = kind, form
    return form


_FORMS: dict[int, tuple[Any, tuple[str, Any, tuple[Any, ...], tuple[Any, ...]]]] = {}
_MOST_FORMS = 4096


def unmarked(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """``(the type, its marks)`` of a type that may be ``Annotated``."""
    return (get_args(kind)[0], kind.__metadata__) if get_origin(kind) is Annotated else (kind, ())


def is_union(kind: Any) -> bool:
    """True for ``A | B``."""
    return get_origin(kind) in (Union, types.UnionType)


@cache
def parts(kind: Any) -> tuple[tuple[Field[Any], Any], ...]:
    """``(field, its type with marks)`` of a dataclass, in order."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple((field, hints[field.name]) for field in fields(kind))


@cache
def flat_names(kind: Any) -> frozenset[str]:
    """Names that a dataclass gives to the object around it."""
    return frozenset(field.name for field, _ in parts(kind)) | frozenset(getattr(kind, "derived", ()))


def float_of(value: float) -> float:
    """``value`` as a float; infinite where it is a whole number too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _inner(arguments: tuple[Any, ...], length: int) -> Iterable[Any]:
    return arguments[:1] * length if Ellipsis in arguments else arguments


def _is_of(value: Any, kind: Any) -> bool:
    bare = unmarked(kind)[0]
    if get_origin(bare) is Literal:
        return value in get_args(bare)
    plain = get_origin(bare) or bare
    if plain in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if plain is float else plain)


def _shown(value: Any) -> str:
    return repr(value)[:60]


def _free(value: Any, *, in_order: bool = False) -> Any:
    """Free-form content as plain JSON: what JSON cannot hold as a string."""
    if isinstance(value, Mapping):
        keys = list(value) if in_order else sorted(value, key=str)
        return {str(key): _free(value[key], in_order=in_order) for key in keys}
    if isinstance(value, list | tuple | set | frozenset):
        entries = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [_free(entry, in_order=in_order) for entry in entries]
    if isinstance(value, bool | str | None):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    item = getattr(value, "item", None)  # a numpy scalar
    return _free(item()) if callable(item) and getattr(value, "shape", None) == () else str(value)
