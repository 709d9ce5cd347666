# SPDX-License-Identifier: Apache-2.0
"""The JSON schema (draft 2020-12) of what `reticent.core.codec` writes, made of the types and their docstrings.

A field is described by what the ``Args:`` of its class, or the string below it, says. Every field is required: the
codec always writes all of them.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from reticent.core.codec import is_union, parts, unmarked
from reticent.core.field_types import AtLeast, InRange, NullIs, OneOf

WORDS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
BOUNDS = {"least": "minimum", "most": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}


def schema_of(kind: Any, *, title: str, about: str, constants: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """The schema of a file that holds one ``kind`` with a few constant fields before its own.

    Args:
        kind: a dataclass.
        title: of the schema.
        about: what the file is.
        constants: ``name: (value, what it is)``.
    """
    named: dict[str, Any] = {}
    whole = _object(kind, named)
    fixed = {name: {"const": value, "description": words} for name, (value, words) in constants.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": about,
        **whole,
        "required": [*fixed, *whole["required"]],
        "properties": fixed | whole["properties"],
        "$defs": dict(sorted(named.items())),
    }


def _object(kind: Any, named: dict[str, Any]) -> dict[str, Any]:
    properties = _properties(kind, named)
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _properties(kind: Any, named: dict[str, Any]) -> dict[str, Any]:
    words = descriptions(kind)
    properties: dict[str, Any] = {}
    for field, hint in parts(kind):
        if field.metadata.get("flat"):
            properties |= _properties(unmarked(hint)[0], named)
            continue
        properties[field.name] = _of(hint, named) | {"description": words.get(field.name, "")}
    for name in getattr(kind, "derived", ()):
        its = inspect.getattr_static(kind, name)
        given = its.fget.__annotations__["return"]
        type_name = {"bool": "boolean", "float": "number", "str": "string"}[getattr(given, "__name__", given)]
        properties[name] = {"type": type_name, "description": _plain(inspect.getdoc(its) or "")}
    return properties


def _of(kind: Any, named: dict[str, Any]) -> dict[str, Any]:
    bare, marks = unmarked(kind)
    schema = _bare(bare, named)
    for mark in marks:
        if isinstance(mark, InRange):
            schema |= {BOUNDS[name]: value for name, value in vars(mark).items() if value is not None}
        elif isinstance(mark, OneOf):
            schema = {"enum": list(mark.names)}
        elif isinstance(mark, AtLeast):
            schema |= {"minItems": mark.length}
        elif isinstance(mark, NullIs):
            schema |= {"type": [schema["type"], "null"]}
    return schema


def _bare(bare: Any, named: dict[str, Any]) -> dict[str, Any]:
    if bare is Any:
        return {}
    if is_union(bare):
        return _union([_of(kind, named) for kind in get_args(bare)])
    if is_dataclass(bare):
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", bare.__name__).lower()  # type: ignore[union-attr]
        if name not in named:
            named[name] = {}  # a class may hold itself
            named[name] |= {"description": _plain(_opening(bare))} | _object(bare, named)
        return {"$ref": f"#/$defs/{name}"}
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is Literal:
        return {"enum": list(arguments)}
    if isinstance(bare, type) and issubclass(bare, Enum):
        return {"enum": [entry.value for entry in bare]}
    if origin is tuple and Ellipsis in arguments:
        return {"type": "array", "items": _of(arguments[0], named)}
    if origin is tuple:
        inner = [_of(kind, named) for kind in arguments]
        entries = {"items": inner[0]} if all(entry == inner[0] for entry in inner) else {"prefixItems": inner}
        return {"type": "array", **entries, "minItems": len(inner), "maxItems": len(inner)}
    if origin is dict:
        return {"type": "object"} | ({} if arguments[1] is Any else {"additionalProperties": _of(arguments[1], named)})
    return {"type": WORDS[bare]}


def _union(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    plain = [schema for schema in schemas if set(schema) <= {"type", *BOUNDS.values(), "items", "minItems", "maxItems"}]
    types = [schema["type"] for schema in schemas] if len(plain) == len(schemas) else []
    bounded = [schema for schema in schemas if len(schema) > 1]
    if types and all(isinstance(name, str) for name in types) and len(bounded) <= 1 and len(schemas) == 2:
        return {key: value for schema in bounded or schemas for key, value in schema.items()} | {"type": types}
    return {"anyOf": schemas}


@cache
def descriptions(kind: Any) -> dict[str, str]:
    """Descriptions of the fields of a class: from its docstring and the strings below its fields."""
    words = _arguments(inspect.getdoc(kind) or "")
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
    for node, after in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr):
            text = getattr(after.value, "value", None)
            if isinstance(text, str):
                words[node.target.id] = _plain(text)
    return words


def _opening(kind: Any) -> str:
    """The docstring before its ``Args:``."""
    return re.split(r"\n\s*(?:Args|Raises):", inspect.getdoc(kind) or "")[0]


def _arguments(doc: str) -> dict[str, str]:
    described: dict[str, str] = {}
    part = re.search(r"^Args:\n((?:[ \n].*\n?)*)", doc + "\n", flags=re.MULTILINE)
    for entry in re.split(r"\n(?=    \S)", part[1] if part else ""):
        names, _, text = entry.strip().partition(":")
        if re.fullmatch(r"\w+(, \w+)*", names):
            described |= {name: _plain(text) for name in names.split(", ")}
    return described


def _plain(text: str) -> str:
    """On one line, without the marks of reStructuredText, with a capital letter in front."""
    line = " ".join(text.split()).replace("``", "`")
    return line[:1].upper() + line[1:]
