# SPDX-License-Identifier: Apache-2.0
"""Pages of the site that are made from the package when it is built: the command line, public names, examples, counts.

mkdocs calls `on_files` (a hook of mkdocs.yml). Nothing that can be read off the package is typed by hand.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import reticent
from reticent.cli import main as cli

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:src|benchmarks|examples|tests)/[^)\s]+|[A-Z]+\.md)\)")
"""Links that lead out of docs/: a site has none of these files."""


def command_line() -> str:
    """Every verb with its help, from the parser that runs."""
    verbs = cli._verbs()
    about = f"{len(verbs)} verbs. Flags are spelt with underscores; hyphens are taken as well."
    parts = ["# Command line", "", about, ""]
    for verb in sorted(verbs):
        parser = cli._parser(verbs, chosen=verb)._subcommands_action._name_parser_map[verb]
        parser.prog = f"reticent {verb}"
        for action in parser._actions:
            action.help = getattr(action, "whole_help", action.help)
        parts += [f"## reticent {verb}", "", "```text", parser.format_help().rstrip(), "```", ""]
    return "\n".join(parts)


def definition(module: ModuleType, name: str) -> str:
    """Dotted path of the definition of a public name."""
    return f"{inspect.unwrap(getattr(module, name)).__module__}.{name}"


def public_names(module: ModuleType) -> str:
    """A page of all public names of a module, each from its docstring."""
    about, _, in_short = (module.__doc__ or "").partition("\nExamples:\n")
    parts = [f"# {module.__name__}", "", about.strip(), ""]
    if in_short:
        parts += ["## In short", "", *fenced(inspect.cleandoc(in_short)), ""]
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, ModuleType):
            parts += [f"- [{thing.__name__}]({name}.md): {(thing.__doc__ or '').splitlines()[0]}"]
        elif module is not reticent and getattr(reticent, name, None) is thing:
            parts += ["", f"## {name}", "", f"See [`reticent.{name}`](python.md#{definition(module, name)})."]
        elif callable(thing):
            parts += ["", f"::: {definition(module, name)}"]
        else:
            parts += ["", f"## {name}", "", f"A `{type(thing).__name__}`."]
    return "\n".join(parts)


def fenced(text: str) -> list[str]:
    """Lines of examples and of prose between them, examples fenced."""
    lines: list[str] = []
    for block in text.split("\n\n"):
        lines += ["```pycon", block, "```", ""] if block.startswith(">>>") else [block, ""]
    return lines


def examples() -> str:
    """Every example with what it says of itself, and its code."""
    parts = ["# Examples", "", "Each imports public names only, and is run by the tests on a tiny model.", ""]
    for path in sorted((ROOT / "examples").glob("*.py")):
        code = path.read_text(encoding="utf-8")
        summary = (ast.get_docstring(ast.parse(code)) or "").partition("\n\n")[0]
        parts += [f"## {path.stem.replace('_', ' ').capitalize()}", "", summary.replace("\n", " "), ""]
        parts += ["```python", code.rstrip(), "```", ""]
    return "\n".join(parts)


def counts() -> str:
    """How much there is of what can be counted."""
    from reticent.attacks import ATTACKS
    from reticent.data.pii import DETECTORS
    from reticent.models.tuning.method import TUNINGS

    attacks, methods, detectors = (len(registry.names()) for registry in (ATTACKS, TUNINGS, DETECTORS))
    registered = (
        f"{attacks} attacks in the registry, {methods} ways to fine-tune, {detectors} detectors of personal data"
    )
    return f"\n\nIn this version: {registered}, {len(cli._verbs())} verbs.\n"


def pages() -> dict[str, str]:
    """Path below docs/ → page, of all pages that are made."""
    made = {"reference/command_line.md": command_line(), "tutorials/examples.md": examples()}
    made["reference/python.md"] = public_names(reticent)
    for name in reticent.__all__:
        if isinstance(getattr(reticent, name), ModuleType):
            made[f"reference/{name}.md"] = public_names(importlib.import_module(f"reticent.{name}"))
    return made


def on_files(files: Any, config: Any) -> Any:
    """Add what is made to the files of the site."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files outside of docs/ become their names; the first page says how much there is."""
    markdown = OUTSIDE.sub(r"\1 (`\2`)", markdown)
    return markdown + counts() if page.file.src_uri == "index.md" else markdown
