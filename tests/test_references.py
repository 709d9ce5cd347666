# SPDX-License-Identifier: Apache-2.0
"""Every place of the package that a docstring, a comment or a page names is there: `room.module.name`, room/file.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "reticent"
ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
NAMED = re.compile(r"`(?:reticent\.)?((?:[a-z_0-9]+\.)+[A-Za-z_0-9.]+)`")
FILE = re.compile(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`")
PAGES = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def defined() -> dict[str, set[str]]:
    """By dotted module, the names that it defines or imports; of classes ``Class.attribute`` too."""
    names: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        names[module] = set(of_body(ast.parse(path.read_text(encoding="utf-8")).body))
    for folder in {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}:
        names.setdefault(".".join(folder.relative_to(PACKAGE).parts), set())
    return names


def of_body(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (f"{node.name}.{name}" for name in of_body(node.body))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from of_body(node.body)


def is_there(place: str, names: dict[str, set[str]]) -> bool:
    parts = place.split(".")
    for cut in range(len(parts), 0, -1):
        module = ".".join(parts[:cut])
        if module in names:
            rest = ".".join(parts[cut:])
            return not rest or rest in names[module] or (rest.partition(".")[0] in names[module] and "." in rest)
    return False


def test_every_place_that_is_named_is_there() -> None:
    names = defined()
    lost = []
    for path in [*PACKAGE.rglob("*.py"), *PAGES, *(ROOT / "benchmarks").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        lost += [
            f"{path.relative_to(ROOT)}: {place}"
            for place in NAMED.findall(text)
            if place.split(".")[0] in ROOMS
            and not place.endswith((".py", ".json", ".html"))
            and not is_there(place, names)
        ]
        lost += [
            f"{path.relative_to(ROOT)}: {place}"
            for place in FILE.findall(text)
            if place.split("/")[0] in ROOMS and not (PACKAGE / place).exists()
        ]
    assert not lost, "\n".join(sorted(set(lost)))
