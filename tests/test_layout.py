# SPDX-License-Identifier: Apache-2.0
"""No module imports itself by a detour, and no name of a module stands in two rooms without a reason."""

from __future__ import annotations

import ast
import graphlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "reticent"
FOLDERS = {f"{PACKAGE}.auditing"}
"""Registries whose entries are folders: an audit family is one, and its modules have names of their own."""
REGISTRY = re.compile(r'^\w+: Registry\[.*\] = Registry\("[^"]+", "([\w.]+)"(?:, \(([^)]*)\))?\)', flags=re.MULTILINE)


def modules(source: Path) -> dict[str, str]:
    """The text of each module of the package below ``source``, by its dotted name; a package is its ``__init__``."""
    texts = {}
    for path in sorted((source / PACKAGE).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        texts[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return texts


def imports(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """What each module needs, imports within functions and for types included, and the packages that it lies in.

    The package itself is left out: it names what is public and loads it when it is asked for.
    """
    needs: dict[str, set[str]] = {name: set() for name in texts}
    for name, text in texts.items():
        for needed in imported(text):
            parts = needed.split(".")
            needs[name] |= {".".join(parts[:end]) for end in range(2, len(parts) + 1)} & texts.keys()
    return {name: needed - {name} for name, needed in needs.items() if name != PACKAGE}


def imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def circle(needs: Mapping[str, set[str]]) -> list[str]:
    """Modules of one circle; empty where there is none."""
    # A package imports its own modules and they need it; only its file's text can close a circle then.
    inner = {name: {other for other in needed if not name.startswith(other + ".")} for name, needed in needs.items()}
    try:
        list(graphlib.TopologicalSorter(inner).static_order())
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def entries(texts: Mapping[str, str]) -> set[str]:
    """Packages whose modules are entries of a registry: a kind of thing is named alike wherever it is looked after."""
    found = set()
    for text in texts.values():
        for package, below in REGISTRY.findall(text):
            folders = {f"{package}.{name}" for name in re.findall(r'"(\w+)"', below)} or {package}
            deep = () if package in FOLDERS else tuple(f"{folder}." for folder in folders)
            found |= folders | {module for module in texts if module.startswith(deep)}
    return found


def roles() -> set[str]:
    """Names that the architecture page lists as roles."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^```roles\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    return {line.split()[0] for line in listed.splitlines()}


def doubles(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Names that stand in two packages, apart from entries of registries, verbs and planted faults."""
    free = entries(texts) | {f"{PACKAGE}.testing.dp_faults"}
    rooms: dict[str, list[str]] = defaultdict(list)
    for module in texts:
        room, _, name = module.rpartition(".")
        if room and room not in free and f"{module}." not in {other[: len(module) + 1] for other in texts}:
            rooms[name].append(module)
    verbs = {f"{PACKAGE}.cli", f"{PACKAGE}.workflows"}
    return {
        name: found
        for name, found in rooms.items()
        if len(found) > 1 and not {module.rpartition(".")[0] for module in found} <= verbs
    }


def test_no_module_imports_itself_by_a_detour():
    assert circle(imports(modules(ROOT / "src"))) == []


def test_a_name_stands_in_one_room():
    assert doubles(modules(ROOT / "src")).keys() <= roles()


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("from reticent.core.b import x", "from reticent.core.a import y"),
        ("def f():\n    from reticent.core import b", "import reticent.core.a"),
        ("if TYPE_CHECKING:\n    from reticent.core.b import x", "from reticent.core.a import y"),
    ],
)
def test_a_circle_is_seen(here, there):
    texts = {"reticent": "", "reticent.core": "", "reticent.core.a": here, "reticent.core.b": there}
    assert sorted(set(circle(imports(texts)))) == ["reticent.core.a", "reticent.core.b"]
    texts["reticent.core.b"] = ""
    assert circle(imports(texts)) == []


def test_a_package_that_loads_its_modules_closes_a_circle_through_another():
    texts = {
        "reticent": "",
        "reticent.clip": "from reticent.clip.make import f",
        "reticent.clip.make": "from reticent.probe import length",
        "reticent.clip.types": "",
        "reticent.probe": "from reticent.clip.types import Clipper",
    }
    assert set(circle(imports(texts))) == {"reticent.clip", "reticent.clip.make", "reticent.probe"}
    assert circle(imports(texts | {"reticent.clip": ""})) == []


def test_a_name_in_two_rooms_is_seen():
    texts = {"reticent.score.places": "", "reticent.data.places": "", "reticent.data.coin": ""}
    assert doubles(texts) == {"places": ["reticent.score.places", "reticent.data.places"]}
    registry = 'READERS: Registry[Reader] = Registry("file format", "reticent.data")'
    assert doubles(texts | {"reticent.score.reader": registry}) == {}
