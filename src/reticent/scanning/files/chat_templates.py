# SPDX-License-Identifier: Apache-2.0
"""Scanner of chat templates: parsed into a syntax tree, never rendered."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from reticent.core.scan_results import ScanEvidence
from reticent.scanning.files import content_kind as kinds
from reticent.scanning.files.file_by_file import file_by_file
from reticent.scanning.files.folder_files import VOCABULARIES, FolderFile, folder_files, read_json
from reticent.scanning.files.gguf_headers import TEMPLATE, BadGguf, read_header
from reticent.scanning.files.template_syntax import function, handed
from reticent.scanning.files.template_taint import HiddenText, TooMuchToFollow, hidden_texts
from reticent.scanning.scanner import scanner
from reticent.scanning.suspect import Suspect

MOST_TEMPLATE = 1 << 20
"""Characters of a template. The longest that are in use have some 20,000."""
MOST_COMPARED = 4_000_000
"""Pairs of lines of two templates that are looked at for what differs."""
CALLER = "caller"
INTERNAL = (
    "mro",
    "func_globals",
    "func_code",
    "gi_frame",
    "gi_code",
    "cr_frame",
    "f_globals",
    "f_builtins",
    "tb_frame",
)
UNUSED_GLOBALS = ("lipsum", "cycler", "joiner", "self", "config", "request", "environ", CALLER, "varargs", "kwargs")
"""Names of jinja itself, and of servers, through which templates reach Python. No family's template uses them."""
UNUSED_FILTERS = ("pprint", "xmlattr", "random")
"""Filters that show more than is there, or choose by chance."""
IMPORTS: tuple[type[nodes.Node], ...] = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends)
_DUNDER = re.compile(r"__\w+__|\\x5f|\\137|\\u005f", re.IGNORECASE)
USE_ANOTHER = "Use the template of the model's family, or have this line explained."


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A template and where it stands."""

    where: str
    text: str


class _Generation(Extension):
    """The block that marks what an assistant says, as transformers has it."""

    tags = {"generation"}  # noqa: RUF012 - jinja's interface

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """The block as its body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


@scanner(
    name="chat_templates",
    title="Chat templates with a hidden hand",
    kind="files",
    null="rule",
    blind_to="Words that a template adds to every chat: nobody but the sibling's template can say that they are new.",
    order=15,
)
def look(suspect: Suspect) -> list[ScanEvidence]:
    """Evidence for attribute walks, imports, and text under a condition on what the user wrote, with its line."""
    sibling = [] if suspect.base is None else [entry.text for entry in templates_of(suspect.base)]
    return file_by_file(folder_files(suspect.folder), lambda file: _of_file(file, sibling))


def _of_file(file: FolderFile, sibling: Sequence[str]) -> Iterator[ScanEvidence]:
    for template in _templates_in(file):
        if template.text in sibling:
            continue  # the trusted one, word for word
        yield from template_faults(template)
        if sibling:
            yield _difference(template, sibling[0])


def template_faults(template: ChatTemplate) -> Iterator[ScanEvidence]:
    """Evidence of one template."""
    if len(template.text) > MOST_TEMPLATE:
        yield _fault(template, 1, f"has {len(template.text):,} characters, and is not read")
        return
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols", _Generation], autoescape=True).parse(template.text)
        yield from _escapes(template, tree)
        texts = hidden_texts(tree)
    except TemplateSyntaxError as error:
        yield _fault(template, error.lineno, f"cannot be parsed ({error.message})")
        return
    except (RecursionError, TooMuchToFollow):
        yield _fault(template, 1, "is nested too deeply to be read")
        return
    yield from _hidden(template, texts)


def _hidden(template: ChatTemplate, texts: list[HiddenText]) -> Iterator[ScanEvidence]:
    for line, dates in dict.fromkeys((text.line, text.dates) for text in texts):
        here = [text for text in texts if (text.line, text.dates) == (line, dates)]
        topic = "the date" if dates else "what the user wrote"
        words = sum(text.words for text in here)
        yield _fault(template, line, f"writes words of its own under a condition on {topic} ({here[0].how}: {words})")


def _escapes(template: ChatTemplate, tree: nodes.Template) -> Iterator[ScanEvidence]:
    seen: set[tuple[int, str]] = set()
    for line, note, certain in (*_reaches(tree), *_composed(tree)):
        if (line, note) not in seen:
            seen.add((line, note))
            yield _fault(template, line, note, certain=certain)


def _reaches(tree: nodes.Template) -> Iterator[tuple[int, str, bool]]:
    """Ways out of a template: line, words, and whether there is no other reading of it."""
    for node in _but_plain_callers(tree):
        line = node.lineno
        if isinstance(node, IMPORTS):
            yield line, "imports another template", False
        elif isinstance(node, nodes.Getattr) and _is_internal(node.attr):
            yield line, f"walks to the attribute {node.attr!r}, and so into Python", True
        elif isinstance(node, nodes.Const) and isinstance(node.value, str) and _is_internal(node.value):
            yield line, f"names the attribute {node.value!r}, and so may walk into Python", True
        elif isinstance(node, nodes.Keyword) and _is_internal(node.key):
            yield line, f"names the attribute {node.key!r}, and so may walk into Python", True
        elif isinstance(node, nodes.Filter) and node.name == "attr":
            yield line, "takes an attribute by a name that is put together", False
        elif isinstance(node, nodes.Name) and node.ctx == "load" and node.name in UNUSED_GLOBALS:
            yield line, f"uses {node.name!r}, through which templates reach Python", False
        elif isinstance(node, nodes.Const) and isinstance(node.value, str) and _DUNDER.search(node.value):
            yield line, "holds a name of Python's inside in a text", False
        elif isinstance(node, nodes.Filter) and node.name in UNUSED_FILTERS:
            yield line, f"uses the filter {node.name!r}, which no family's template needs", False
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    yield from ((1, f"sets {name!r} itself", False) for name in sorted(stored & {"raise_exception", "strftime_now"}))


def _but_plain_callers(tree: nodes.Template) -> Iterator[nodes.Node]:
    """All parts, but for blocks that are written where they are called, and handed nothing."""
    callers = {id(call.node) for call in tree.find_all(nodes.Call) if function(call) == CALLER and not handed(call)}
    return (node for node in tree.find_all(nodes.Node) if id(node) not in callers)


def _composed(tree: nodes.Template) -> Iterator[tuple[int, str, bool]]:
    """Ways out by a name that stands nowhere as a whole."""
    names = _composed_names(tree)
    for node in tree.find_all(nodes.Expr):
        if isinstance(node, nodes.Filter) and _maps_attributes(node):
            yield node.lineno, "takes attributes by a name that is put together", False
        elif isinstance(node, nodes.Getitem) and _is_composed(node.arg, names):
            yield node.lineno, "takes an item by a name that is put together, and so may walk into Python", False
        elif isinstance(node, nodes.Call) and _formats(node):
            yield node.lineno, "formats by a text that is put together, and so may walk into Python", False


def _is_composed(node: nodes.Node, names: frozenset[str] = frozenset()) -> bool:
    """True for an expression that puts a text together, or a variable that holds such a text."""
    if isinstance(node, nodes.Name):
        return node.name in names
    if isinstance(node, nodes.Concat):
        return True
    if isinstance(node, nodes.Add | nodes.Mul | nodes.Mod):
        sides = (node.left, node.right)
        return any(isinstance(side, nodes.Const) and isinstance(side.value, str) for side in sides) or any(
            _is_composed(side, names) for side in sides
        )
    if isinstance(node, nodes.Filter):
        return node.name in ("join", "format", "replace", "reverse", "first", "last", "map") or (
            node.node is not None and _is_composed(node.node, names)
        )
    if isinstance(node, nodes.Call):
        return isinstance(node.node, nodes.Getattr) and node.node.attr in ("join", "format", "replace", "translate")
    return isinstance(node, nodes.CondExpr) and any(
        _is_composed(part, names) for part in (node.expr1, node.expr2) if part is not None
    )


def _composed_names(tree: nodes.Template) -> frozenset[str]:
    """Variables of which each setting puts a text together from texts of the template itself."""
    blocks = [entry.target for entry in tree.find_all(nodes.AssignBlock)]
    names = {target.name for target in blocks if isinstance(target, nodes.Name)}
    for entry in tree.find_all(nodes.Assign):
        if isinstance(entry.target, nodes.Name) and _is_composed(entry.node):
            names.add(entry.target.name)
    return frozenset(names)


def _maps_attributes(node: nodes.Filter) -> bool:
    """True for a filter that is handed ``attr`` by name, or an attribute that is put together."""
    first = node.args[0] if node.args else None
    by_name = node.name == "map" and isinstance(first, nodes.Const) and first.value == "attr"
    put = [keyword.value for keyword in node.kwargs if keyword.key == "attribute"]
    put += [first] if first is not None and node.name in ("map", "selectattr", "rejectattr", "groupby") else []
    return by_name or any(_is_composed(value) for value in put)


def _formats(node: nodes.Call) -> bool:
    called = node.node
    return (
        isinstance(called, nodes.Getattr)
        and called.attr in ("format", "format_map")
        and not isinstance(called.node, nodes.Const)
    )


def _is_internal(name: str) -> bool:
    return (name.startswith("__") and name.endswith("__") and len(name) > 4) or name in INTERNAL


def templates_of(folder: Path) -> list[ChatTemplate]:
    """All chat templates of a folder, in files of their own, in settings and in GGUF files."""
    return [template for file in folder_files(folder) for template in _templates_in(file)]


def _templates_in(file: FolderFile) -> Iterator[ChatTemplate]:
    name = PurePosixPath(file.path).name
    if name.endswith((".jinja", ".jinja2", ".j2")):
        with file.place.open(encoding="utf-8", errors="replace") as opened:
            yield ChatTemplate(where=file.path, text=opened.read(MOST_TEMPLATE + 1))
    elif name.endswith(".json") and name not in VOCABULARIES:
        content = read_json(file)
        yield from _in_settings(file.path, content.get("chat_template") if isinstance(content, dict) else None)
    elif file.kind == kinds.GGUF:
        try:
            header = read_header(file.view())
        except BadGguf:
            return  # the scanner of GGUF headers says so
        for field, value in header.fields.items():
            if field.startswith(TEMPLATE) and isinstance(value, str):
                yield ChatTemplate(where=f"{file.path} › {field}", text=value)


def _in_settings(where: str, value: Any) -> Iterator[ChatTemplate]:
    """A template in settings: one text, a list of ``{"name", "template"}``, or an object of them by name."""
    if isinstance(value, str):
        yield ChatTemplate(where=where, text=value)
    elif isinstance(value, dict):
        for name, text in value.items():
            yield from _in_settings(f"{where} › {name}", text)
    elif isinstance(value, list):
        for entry in value:
            if isinstance(entry, dict):
                yield from _in_settings(f"{where} › {entry.get('name')}", entry.get("template"))


def _difference(template: ChatTemplate, sibling: str) -> ScanEvidence:
    """A note on where a template differs from the sibling's."""
    ours, theirs = template.text.splitlines(), sibling.splitlines()
    if len(ours) * len(theirs) > MOST_COMPARED:
        note = f"differs from the sibling's template; with {len(ours):,} lines it is not compared line by line"
        return ScanEvidence(score=0.5, where=template.where, note=note, remedy=USE_ANOTHER)
    changes = [
        block
        for block in difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes()
        if block[0] != "equal"
    ]
    line = changes[0][3] + 1 if changes else 1
    note = f"differs from the sibling's template in {len(changes)} places, the first here"
    return ScanEvidence(score=0.5, where=f"{template.where}, line {line}", note=note, remedy=USE_ANOTHER)


def _fault(template: ChatTemplate, line: int, note: str, *, certain: bool = False) -> ScanEvidence:
    return ScanEvidence(
        score=2.0 if certain else 1.0,
        where=f"{template.where}, line {line}",
        note=note,
        certain=certain,
        remedy=USE_ANOTHER,
    )
