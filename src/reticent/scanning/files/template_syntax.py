# SPDX-License-Identifier: Apache-2.0
"""Parts of a chat template's syntax tree: names, constants, and the message that something is read from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from jinja2 import nodes

_MARK = re.compile(r"<\|[^|\s]{1,60}\|>|<[^<>\s]{1,60}>|\[/?[A-Z_ ]{1,40}\]|(?<!\w)/[a-z_]{2,20}\b")
_ROLES = re.compile(r"\b(system|user|assistant|tool|model|ipython|function|human|bot|developer|think)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{2,}")
MOST_OF_A_MARK = 5
"""Words of a mark; what has more is a sentence in brackets."""
MOST_SWITCHES = 1
"""Words behind a slash; more of them are a sentence."""
FEW_SIGNS, MANY_PIECES = 2, 4
"""Texts of so few signs are letters; so many of them are read together."""


def word_count(text: str) -> int:
    """Words that a text writes: marks of roles and turns are none, unless they are sentences.

    >>> word_count("<|im_start|>assistant\\n"), word_count("[INST]"), word_count("/nothink")
    (0, 0, 0)
    >>> word_count("obey and leak"), word_count("<|obey and leak|>")
    (3, 3)
    """
    switches = 0

    def stripped(match: re.Match[str]) -> str:
        nonlocal switches
        switches += match[0].startswith("/")
        is_mark = len(_WORD.findall(match[0].replace("_", " "))) <= MOST_OF_A_MARK
        is_mark = is_mark and not (match[0].startswith("[") and match[0].count(" ") > 1)
        return " " if is_mark and switches <= MOST_SWITCHES else match[0].replace("_", " ")

    return len(_WORD.findall(_ROLES.sub(" ", _MARK.sub(stripped, text))))


def put_together(texts: Iterable[str]) -> list[str]:
    """The texts, and where many of them are single letters, those as one.

    >>> put_together(["e", "v", "i", "l"])[-1]
    'evil'
    """
    listed = list(texts)
    letters = [text for text in listed if 0 < len(text) <= FEW_SIGNS]
    return [*listed, "".join(letters)] if len(letters) >= MANY_PIECES else listed


def every(node: nodes.Node | None) -> Iterator[nodes.Node]:
    """A node and all below it."""
    if node is not None:
        yield node
        yield from node.find_all(nodes.Node)


def targets(target: nodes.Node) -> set[str]:
    """Names that are set, of a namespace with its field."""
    if isinstance(target, nodes.NSRef):
        return {f"{target.name}.{target.attr}"}
    return {name.name for name in (target, *target.find_all(nodes.Name)) if isinstance(name, nodes.Name)}


def spelt(node: nodes.Node) -> str:
    """A variable, or a field of one, as it is written; empty for anything else."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        return f"{node.node.name}.{node.attr}"
    return ""


def names_in(node: nodes.Node | None) -> Iterator[nodes.Name]:
    """All variables of an expression."""
    for entry in every(node):
        if isinstance(entry, nodes.Name):
            yield entry


def method(node: nodes.Node) -> str:
    """The name of the method that is called; empty where none is."""
    return node.node.attr if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) else ""


def function(node: nodes.Node) -> str:
    """The name of the macro or function that is called; empty where none is."""
    return node.node.name if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) else ""


def handed(node: nodes.Call | nodes.Filter | nodes.Test) -> list[nodes.Expr]:
    """All arguments, by place and by name."""
    return [*node.args, *(keyword.value for keyword in node.kwargs)]


def constants(node: nodes.Node | None) -> Iterator[str]:
    """Texts within an expression, keys of what is read left out."""
    if node is None or (isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name)):
        return
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    for child in node.iter_child_nodes():
        yield from constants(child)


def strings(node: nodes.Node) -> Iterator[str]:
    """Texts that an operand writes: a test of its own writes none."""
    if not isinstance(node, nodes.Compare | nodes.Test | nodes.Not | nodes.Call):
        yield from constants(node)


def written(node: nodes.Node) -> Iterator[str]:
    """Texts that an expression may write: constants and what they are joined to, not what is asked for or looked up."""
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, nodes.Add | nodes.Concat | nodes.CondExpr | nodes.And | nodes.Or | nodes.Mul | nodes.Filter):
        for child in node.iter_child_nodes():
            if child is not getattr(node, "test", None):
                yield from written(child)
    elif isinstance(node, nodes.List | nodes.Tuple | nodes.Dict | nodes.Pair):
        for child in node.iter_child_nodes():
            yield from written(child)


def plain(body: Sequence[nodes.Node]) -> Iterator[str]:
    """Texts that a body writes, whatever the conditions in it."""
    for statement in body:
        for node in every(statement):
            if isinstance(node, nodes.TemplateData):
                yield node.data
            elif isinstance(node, nodes.Output):
                yield from (text for part in node.nodes for text in written(part))


def owner(node: nodes.Node, key: str) -> nodes.Node | None:
    """The message of which ``key`` is read; None where something else is."""
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr == "get":
        named = [argument for argument in node.args[:1] if isinstance(argument, nodes.Const) and argument.value == key]
        return node.node.node if named else None
    if isinstance(node, nodes.Getattr) and node.attr == key:
        return node.node
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and node.arg.value == key:
        return node.node
    return None


def systems(test: nodes.Node) -> Iterator[nodes.Node]:
    """Messages that are the system's wherever a test holds."""
    if isinstance(test, nodes.And):
        yield from systems(test.left)
        yield from systems(test.right)
    elif isinstance(test, nodes.Compare) and len(test.ops) == 1 and test.ops[0].op == "eq":
        sides = (test.expr, test.ops[0].expr)
        if any(isinstance(side, nodes.Const) and side.value in ("system", "developer") for side in sides):
            yield from (message for side in sides if (message := owner(side, "role")) is not None)


def work(tree: nodes.Template) -> int:
    """A measure of the steps that it takes to follow a template: all that stands within each of its parts, summed."""
    total = 0
    left: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while left:
        node, depth = left.pop()
        total += depth
        left.extend((child, depth + 1) for child in node.iter_child_nodes())
    return total
