# SPDX-License-Identifier: Apache-2.0
"""What `import reticent` promises: two tiers of names, listed once, typed, closed, light, and each with an example."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import reticent
from reticent.core.lazy import homes_of, lazy_names

MODULES = ("attacks", "data", "monitor", "objectives", "privacy", "results", "stats", "testing", "unlearning")
"""The second tier."""


def public_modules() -> list[ModuleType]:
    return [reticent, *(importlib.import_module(f"reticent.{name}") for name in MODULES)]


def public_things() -> dict[str, Any]:
    """Name with its module → what it names, for both tiers; modules themselves are left out."""
    things = {
        f"{module.__name__}.{name}": getattr(module, name) for module in public_modules() for name in module.__all__
    }
    return {name: thing for name, thing in things.items() if not isinstance(thing, ModuleType)}


# ---- the walk over signatures ---------------------------------------------------------------------------------------


def types_in(annotation: Any) -> Iterator[type]:
    """Classes of this package that an annotation names."""
    if isinstance(annotation, (list, tuple)):
        for part in annotation:
            yield from types_in(part)
    elif isinstance(annotation, type) and annotation.__module__.startswith("reticent"):
        yield annotation
    else:
        for part in typing.get_args(annotation):
            yield from types_in(part)


def imported_for_types(module: ModuleType) -> dict[str, Any]:
    """Names that a module imports for its annotations alone."""
    names: dict[str, Any] = {}
    for block in ast.parse(inspect.getsource(module)).body:
        if not (isinstance(block, ast.If) and isinstance(block.test, ast.Name)):
            continue
        for statement in block.body:
            if isinstance(statement, ast.ImportFrom) and statement.module:
                source = importlib.import_module(statement.module)
                names |= {alias.asname or alias.name: getattr(source, alias.name) for alias in statement.names}
            elif isinstance(statement, ast.Import):
                names |= {alias.asname or alias.name: importlib.import_module(alias.name) for alias in statement.names}
    return names


def signatures_of(thing: Any) -> Iterator[tuple[str, Any]]:
    """What carries annotations: a function; a class with its public methods and properties."""
    thing = inspect.unwrap(thing) if callable(thing) else thing
    if inspect.isfunction(thing):
        yield thing.__name__, thing
    elif isinstance(thing, type):
        yield thing.__name__, thing
        for name, member in vars(thing).items():
            function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
            if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
                yield f"{thing.__name__}.{name}", function


def not_public(thing: Any, public: set[Any]) -> list[str]:
    """Types in the signatures of ``thing`` that are in no public module, a line each."""
    lines = []
    for name, annotated in signatures_of(thing):
        if not annotated.__module__.startswith("reticent"):
            continue
        module = sys.modules[annotated.__module__]
        names = imported_for_types(module) if "TYPE_CHECKING" in inspect.getsource(module) else {}
        for parameter, annotation in typing.get_type_hints(annotated, localns=names).items():
            if not parameter.startswith("_"):
                lines += [
                    f"{name}({parameter}) needs {kind.__module__}.{kind.__name__}"
                    for kind in types_in(annotation)
                    if kind not in public
                ]
    return lines


def test_every_type_in_a_public_signature_is_public():
    things = public_things()
    public = {thing for thing in things.values() if isinstance(thing, type)}
    lines = [line for thing in things.values() for line in not_public(thing, public)]
    assert not lines, "list these in src/reticent/__init__.py or in a module of the second tier:\n" + "\n".join(lines)


class _Hidden:
    """Stands for a type that is in no list."""


_Hidden.__module__ = "reticent.core.record"


def _shows(part: _Hidden | None, *, more: tuple[_Hidden, ...] = ()) -> dict[str, _Hidden]: ...


def test_the_walk_finds_a_type_that_is_not_public():
    _shows.__module__ = "reticent.core.record"
    names = sys.modules["reticent.core.record"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_Hidden", _Hidden, raising=False)
        assert len(not_public(_shows, set())) == 3
        assert not not_public(_shows, {_Hidden})


# ---- one list, light ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_every_name_is_there_and_listed_once(module):
    assert module.__all__ == sorted(set(module.__all__))
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018 - it is the looking up that is tried


@pytest.mark.parametrize("module", public_modules()[2:], ids=lambda module: module.__name__)
def test_no_lazy_name_is_that_of_a_module_beside_it(module):
    """Importing the module would put it in the place of what the name stands for."""
    beside = {found.name for found in pkgutil.iter_modules(getattr(module, "__path__", []))}
    assert not beside & set(module.__all__)


def test_what_types_are_checked_by_is_what_is_found():
    for module in (reticent, *public_modules()[2:]):
        homes = homes_of(Path(module.__file__).read_text(encoding="utf-8"))
        assert sorted(homes) == module.__all__
        for name, home in homes.items():
            if home != "reticent":
                assert getattr(importlib.import_module(home), name) is getattr(module, name)


def test_lazy_names_ignore_other_imports(tmp_path):
    file = tmp_path / "package.py"
    file.write_text(
        "import os\nfrom json import dumps as dumps\nif TYPE_CHECKING:\n    from json import loads\n"
        "    from math import tau as tau\n    from math import e as euler\nif True:\n    from math import pi as pi\n"
    )
    sys.modules["package_of_a_test"] = ModuleType("package_of_a_test")
    try:
        names = lazy_names("package_of_a_test", str(file))
        assert names.names == ["tau"]
        assert names.get("tau") == sys.modules["package_of_a_test"].tau
    finally:
        del sys.modules["package_of_a_test"]


def test_importing_it_is_light():
    code = "import sys, reticent; assert not {'torch', 'numpy', 'pyarrow', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_second_tier_is_light():
    code = (
        "import sys, reticent\n"
        f"for name in {MODULES}: getattr(reticent, name)\n"
        "reticent.data.help_desk, reticent.stats.auc, reticent.privacy.PrivacySpec, reticent.results.Verdict\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- examples -------------------------------------------------------------------------------------------------------


def shown(name: str, thing: Any) -> bool:
    """Whether an example shows what is public: in its own docstring, in a method's, or in that of a public module."""
    docs = [inspect.getdoc(annotated) or "" for _, annotated in signatures_of(thing)]
    if any(">>> " in doc for doc in docs):
        return True
    last = name.rpartition(".")[2]
    homes = [module for module in public_modules() if getattr(module, last, None) is thing]
    examples = [example for home in homes for example in doctest.DocTestParser().get_examples(home.__doc__ or "")]
    return any(re.search(rf"\b{last}\b", example.source) for example in examples)


def test_every_public_name_has_an_example():
    missing = [name for name, thing in public_things().items() if not shown(name, thing)]
    assert not missing, "\n".join(missing)


def test_examples_stand_under_their_heading():
    """Without it the site shows them as a quotation within quotations."""
    bare = {
        f"{annotated.__module__}.{name}"
        for thing in public_things().values()
        for name, annotated in signatures_of(thing)
        if annotated.__module__.startswith("reticent")
        and re.search(r"^>>> ", inspect.getdoc(annotated) or "", flags=re.M)
    }
    assert not bare
