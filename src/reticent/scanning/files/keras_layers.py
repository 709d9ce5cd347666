# SPDX-License-Identifier: Apache-2.0
"""Layers of Keras that are programs, in settings as JSON and inside of HDF5 files, wherever those begin."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

HDF5_MARK = b"\x89HDF\r\n\x1a\n"
_FIRST_PLACE = 512
"""Byte at which an HDF5 file may begin behind other content; then at each double."""
PROGRAMS = ("Lambda", "__lambda__", "TFOpLambda", "SlicingOpLambda", "TorchModuleWrapper")
ACTING = (
    *("enable_unsafe_deserialization", "get_file", "load_model", "load_weights", "run_script"),
    *("read_file", "write_file", "py_function", "numpy_function", "py_func", "system", "popen"),
)
"""Functions of Keras that fetch, load or unlock."""
OF_PYTHON = ("exec", "eval", "compile", "open", "__import__", "getattr", "setattr", "input", "breakpoint", "vars")
HOMES = ("keras", "keras_hub", "keras_nlp", "keras_cv", "keras_core", "tf_keras", "tensorflow", "builtins")
NOTE = "has a Lambda layer, which is a program"
_CLASS = re.compile(
    rb"\"class_name\"\s*:\s*\"(?:[^\"\\]{0,80}>)?(?:Lambda|__lambda__|TorchModuleWrapper|[^\"]{0,80}\\)"
)
_OP = re.compile(rb"TFOpLambda|SlicingOpLambda")
_HIDDEN = re.compile(rb"\"(?=[^\"]{0,80}\\u00)(?:[clasnme_]|\\u00[0-9a-fA-F]{2}){10}\"\s*:")
_MODULE = re.compile(rb"\"module\"\s*:\s*\"([\w.]{1,80})\"\s*,\s*\"class_name\"")


def layer_notes(content: Any) -> Iterator[str]:
    """Words on parts of a model's settings that are programs, or that a loader imports from elsewhere.

    >>> list(layer_notes({"module": "keras.layers", "class_name": "Lambda"}))
    ['has a Lambda layer, which is a program']
    >>> list(layer_notes({"module": "subprocess", "class_name": "Popen"}))
    ["names 'subprocess' as the home of a layer, which a loader imports"]
    """
    left = [content]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            left.extend(part.values())
            if isinstance(part.get("class_name"), str):
                yield from _of_layer(part)
        elif isinstance(part, list):
            left.extend(part)


def _of_layer(part: Mapping[str, Any]) -> Iterator[str]:
    name = part["class_name"].rpartition(">")[2]
    if name in PROGRAMS:
        yield NOTE if name != "TorchModuleWrapper" else "has a layer that unpickles a module of torch"
    home = part.get("module")
    if isinstance(home, str) and home.partition(".")[0] not in HOMES:
        yield f"names {home[:80]!r} as the home of a layer, which a loader imports"
    function = part.get("config") if name == "function" else name
    if isinstance(function, str) and function in (*ACTING, *OF_PYTHON):
        yield f"names the function {function!r}, which a loader calls"


def hdf5_start(view: memoryview) -> int:
    """Byte at which an HDF5 file begins in this content; -1 where none does.

    >>> hdf5_start(memoryview(bytes(1024) + HDF5_MARK))
    1024
    """
    place = 0
    while place + len(HDF5_MARK) <= len(view):
        if bytes(view[place : place + len(HDF5_MARK)]) == HDF5_MARK:
            return place
        place = 2 * place or _FIRST_PLACE
    return -1


def hdf5_note(view: memoryview) -> str:
    """Words on an HDF5 file whose settings hold a program; empty for others. Settings stand in it as plain JSON."""
    if _CLASS.search(view) or _HIDDEN.search(view) or _OP.search(view):
        return "is a Keras model with a Lambda layer, which is a program"
    homes = {match[1].decode() for match in _MODULE.finditer(view)}
    away = sorted(home for home in homes if home.partition(".")[0] not in HOMES)
    return f"is a Keras model with a layer of {away[0]!r}, which a loader imports" if away else ""
