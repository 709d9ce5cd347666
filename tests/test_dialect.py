# SPDX-License-Identifier: Apache-2.0
"""The code speaks the field's language: variables are nouns, classes are things, docstrings are statements.

Rooms that do not keep to it yet stand in the lists below with as many offences as they have; a number may only fall,
and a room that has none goes from its list.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "reticent"
PRONOUNS = {"one", "found", "said", "made", "kept", "why", "own", "known", "each"}
PER_THOUSAND = 2
"""Offences among a thousand bindings that a clean room may have: `why` is a word of `BadInput`."""
QUESTIONS = re.compile(r"(What|Whether|Which|Who) ")
COUNTERS = re.compile(r"Raised (when|whenever) ")
PARTICIPLES = re.compile(
    r"_?([A-Z][a-z]*ed|Begun|Broken|Built|Caught|Chosen|Cut|Done|Drawn|Fit|Found|Given|Gone|Grown|Held|Hidden|Kept|Known"
    r"|Left|Lost|Made|Meant|Met|Put|Said|Seen|Sent|Set|Shown|Spelt|Spent|Taken|Thrown|Told|Written)"
)

BINDINGS_TO_DO: dict[str, int] = {}
DOCSTRINGS_TO_DO: dict[str, int] = {}
CLASSES_TO_DO = {
    "auditing/family.py: Prepared",
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
ERRORS = {"core/errors.py: Underpowered", "train/diverged.py: Diverged"}
"""Exceptions are named after what happened."""


def bindings(tree: ast.AST) -> list[str]:
    """Names that a module binds as variables or arguments, without the fields of classes: these are an interface."""
    fields = {
        id(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        for target in (
            [statement.target]
            if isinstance(statement, ast.AnnAssign)
            else statement.targets
            if isinstance(statement, ast.Assign)
            else []
        )
    }
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
            names.append(node.id)
        elif isinstance(node, ast.arg):
            names.append(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.append(node.name)
    return names


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Of the module, its classes and functions, and the strings below constants and fields."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text
        if isinstance(node, ast.Module | ast.ClassDef):
            for before, statement in pairwise(node.body):
                match statement:
                    case ast.Expr(ast.Constant(str(text))) if isinstance(before, ast.Assign | ast.AnnAssign):
                        yield text


def asks(docstring: str) -> bool:
    return bool(QUESTIONS.match(docstring.strip()) or COUNTERS.search(docstring))


def participles(tree: ast.AST) -> list[str]:
    """Classes that are named by one participle, which says what happened to a thing and not which thing."""
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and PARTICIPLES.fullmatch(node.name)]


def room_of(path: str, rooms: Mapping[str, int]) -> str:
    """The longest listed start of ``path``; empty for clean rooms."""
    return max((room for room in rooms if path.startswith(room)), key=len, default="")


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every module of the package, parsed by the one process that looks at them."""
    return {
        path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(SOURCE.rglob("*.py"))
    }


def test_variables_are_nouns(trees):
    total, offences = Counter[str](), Counter[str]()
    places: dict[str, list[str]] = {}
    for path, tree in trees.items():
        names = bindings(tree)
        room = room_of(path, BINDINGS_TO_DO)
        total[room] += len(names)
        offences[room] += sum(name in PRONOUNS for name in names)
        places.setdefault(room, []).extend(f"{path}: {name}" for name in names if name in PRONOUNS)
    for room, allowed in BINDINGS_TO_DO.items():
        assert offences[room] <= allowed, (room, places[room])
    assert offences[""] <= PER_THOUSAND * total[""] / 1000, places[""]


def test_docstrings_are_statements(trees):
    offences = Counter[str]()
    texts: dict[str, list[str]] = {}
    for path, tree in trees.items():
        asking = [f"{path}: {text.strip()[:60]}" for text in docstrings(tree) if asks(text)]
        room = room_of(path, DOCSTRINGS_TO_DO)
        offences[room] += len(asking)
        texts.setdefault(room, []).extend(asking)
    for room, allowed in DOCSTRINGS_TO_DO.items():
        assert offences[room] <= allowed, (room, texts[room])
    assert not texts[""]


def test_classes_are_things(trees):
    named = {f"{path}: {name}" for path, tree in trees.items() for name in participles(tree)}
    assert named <= CLASSES_TO_DO | ERRORS


def test_offences_are_seen():
    tree = ast.parse(
        '''
"""Whether it is seen."""
LIMIT = 3
"""What is allowed."""
VERSION = 1
"""Raised when the output changes."""
@dataclass
class Pulled:
    """Which secrets came out."""
    why: str
def f(own, *, known=(lambda each: each)):
    """A statement. What follows is none."""
    for one in own:
        found = [kept for kept in one]
'''
    )
    assert sorted(set(bindings(tree)) & PRONOUNS) == ["each", "found", "kept", "known", "one", "own"]
    assert sum(map(asks, docstrings(tree))) == 4
    assert participles(tree) == ["Pulled"]
    assert room_of("data/pii/scrub.py", {"data/pii/": 3, "data/": 1, "core/": 1}) == "data/pii/"
