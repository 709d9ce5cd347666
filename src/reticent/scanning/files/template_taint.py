# SPDX-License-Identifier: Apache-2.0
"""Text of a chat template that appears only under a condition on what the user wrote.

A walk over the syntax tree follows the content of messages through variables, loops and filters. A branch whose test
reads it, and which writes words of its own, speaks for the publisher behind the user's back. Marks of roles and turns
(``<|im_start|>``, ``[INST]``) are no words, and what the system prompt says is the operator's, not the user's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jinja2 import nodes

CONTENT = "content"
WHOLE = ("messages", "message", "conversation", "history")
"""Names for messages; turned into text as a whole they hold their content."""
TO_TEXT = ("string", "tojson", "join", "list", "map", "last", "first", "reverse", "select", "selectattr")
SHAPE_TESTS = ("string", "none", "defined", "undefined", "mapping", "iterable", "sequence", "boolean", "number", "true")
PARTS = ("type", "text", "image", "image_url", "video", "audio", "input_audio", "input_image", "json", "document")
"""Keys and kinds of the parts of a message."""
MOST_HELD = 50
"""Texts of one variable that are kept."""
PASSES = 3
"""A variable may be read above the line that sets it, in a loop or a macro; three passes follow it through two."""
_MARK = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z_ ]{1,40}\]|\{%.*?%\}|<\|[^|]{1,60}\|>|(?<!\w)/[a-z_]{2,20}\b")
_ROLES = re.compile(r"\b(system|user|assistant|tool|model|ipython|function|human|bot|developer|think)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True, kw_only=True)
class HiddenText:
    """Words under a condition on the user's.

    Args:
        line: of the condition.
        words: how many it writes.
        how: the construction, in words.
    """

    line: int
    words: int
    how: str


def hidden_texts(template: nodes.Template) -> list[HiddenText]:
    """All of a template, by line."""
    walk = _Walk()
    for _ in range(PASSES):
        walk.texts = []
        walk.body(template.body, _Place())
    return sorted(set(walk.texts), key=lambda text: (text.line, text.how))


@dataclass(frozen=True)
class _Place:
    """A place in the tree: the line of the condition on the user's words that it is under; 0 for none."""

    line: int = 0


@dataclass
class _Walk:
    tainted: set[str] = field(default_factory=set)
    flags: set[str] = field(default_factory=set)
    """Variables that were set under a condition on the user's words."""
    parts: set[str] = field(default_factory=set)
    """Loop variables over the parts of a message."""
    macros: dict[str, list[str]] = field(default_factory=dict)
    """Names of their arguments."""
    asking: set[str] = field(default_factory=set)
    """Macros that answer by what the user wrote."""
    of_system: frozenset[str] = frozenset()
    """Messages of which a test around this place says that they are the system's."""
    texts: list[HiddenText] = field(default_factory=list)
    wholes: set[str] = field(default_factory=lambda: set(WHOLE))
    """Variables that hold messages as a whole."""
    words: dict[str, list[str]] = field(default_factory=dict)
    """Texts that a variable holds, or a macro writes, wherever they were set."""

    def body(self, statements: Sequence[nodes.Node], place: _Place) -> None:
        for statement in statements:
            self.statement(statement, place)

    def statement(self, node: nodes.Node, place: _Place) -> None:
        if isinstance(node, nodes.If):
            self.branch(node, place)
        elif isinstance(node, nodes.Output):
            self.output(node, place)
        elif isinstance(node, nodes.Assign):
            self.assign(node, place)
        elif isinstance(node, nodes.For):
            self.loop(node, place)
        elif isinstance(node, nodes.Macro | nodes.With | nodes.AssignBlock | nodes.FilterBlock):
            self.block(node, place)
            self.body(node.body, place)
        else:
            for _, value in node.iter_fields():
                inner = value if isinstance(value, list) else [value]
                self.body([child for child in inner if isinstance(child, nodes.Node)], place)

    def block(self, node: nodes.Node, place: _Place) -> None:
        """Note the names that a block sets for its body, or for what follows."""
        if isinstance(node, nodes.Macro):
            self.macros[node.name] = [name.name for name in node.args]
            self.words[node.name] = list(_plain(node.body))
            if any(self.asks(branch.test) for branch in node.find_all(nodes.If)):
                self.asking.add(node.name)
        elif isinstance(node, nodes.With):
            for target, value in zip(node.targets, node.values, strict=True):
                self.bind(target, value, place)
        elif isinstance(node, nodes.AssignBlock):
            self.words |= {name: list(_plain(node.body)) for name in _targets(node.target)}
            self.flags |= _targets(node.target) if place.line else set()
        elif isinstance(node, nodes.FilterBlock):
            read = any(self.reads(part) for statement in node.body for part in _all(statement))
            for source in node.filter.args[1:] if read and node.filter.name == "replace" else ():
                for text in _constants(source):
                    self.note(text, _Place(line=node.lineno), "text put in place of the user's", 1)

    def branch(self, node: nodes.If, place: _Place) -> None:
        outside = self.of_system
        for branch in (node, *node.elif_):
            self.of_system = outside | frozenset(_systems(branch.test))
            inner = _Place(line=place.line or (branch.lineno if self.asks(branch.test) else 0))
            self.expression(branch.test, place, silent=True)
            self.body(branch.body, inner)
            self.of_system = outside
            place = inner  # what comes when this test fails is under it as well
        self.body(node.else_, place)

    def output(self, node: nodes.Output, place: _Place) -> None:
        for part in node.nodes:
            if isinstance(part, nodes.TemplateData):
                self.note(part.data, place, "text", 1)
            else:
                self.expression(part, place)

    def assign(self, node: nodes.Assign, place: _Place) -> None:
        self.bind(node.target, node.node, place)
        self.expression(node.node, place, least=2)

    def bind(self, target: nodes.Node, value: nodes.Node, place: _Place) -> None:
        """Follow a value into the variables that it is set to."""
        names = _targets(target)
        if self.reads(value):
            self.tainted |= names
        if place.line or self.asks(value):
            self.flags |= names
        if self.is_whole(value):
            self.wholes |= names
        held = [*_constants(value)]
        for name in names if held else ():
            self.words[name] = list(dict.fromkeys([*self.words.get(name, []), *held]))[:MOST_HELD]

    def is_whole(self, node: nodes.Node | None) -> bool:
        """True for messages, or one of them, as a whole."""
        while isinstance(node, nodes.Getitem | nodes.Filter) and _owner(node, CONTENT) is None:
            if (
                isinstance(node, nodes.Getitem)
                and isinstance(node.arg, nodes.Const)
                and isinstance(node.arg.value, str)
            ):
                return False
            node = node.node
        return isinstance(node, nodes.Name) and node.name in self.wholes

    def loop(self, node: nodes.For, place: _Place) -> None:
        names = _targets(node.target)
        if self.reads(node.iter):
            self.tainted |= names
            self.parts |= names
        if self.is_whole(node.iter):
            self.wholes |= names
        self.expression(node.iter, place, silent=True)
        chosen = self.asks(node.iter) or (node.test is not None and self.asks(node.test))
        inner = _Place(line=place.line or (node.lineno if chosen else 0))
        self.body(node.body, inner)
        self.body(node.else_, inner)

    # ---- expressions ------------------------------------------------------------------------------------------------

    def expression(self, node: nodes.Node, place: _Place, *, least: int = 1, silent: bool = False) -> None:
        """Texts that an expression writes under a condition within it, or at a place that is under one."""
        if place.line and not silent:
            for text in (*_written(node), *self.held(node)):
                self.note(text, place, "text", least)
        for inner in (node, *node.find_all(nodes.Expr)):
            if isinstance(inner, nodes.Call) and isinstance(inner.node, nodes.Name):
                self.hand_on(inner, inner.node.name)
            for how, line, text in self.hidden(inner):
                self.note(text, _Place(line=line), how, 1)

    def held(self, node: nodes.Node) -> Iterator[str]:
        """Texts that stand elsewhere and are written here: of a variable, of a macro, and what a macro is handed."""
        for inner in _all(node):
            if isinstance(inner, nodes.Name) and inner.ctx == "load":
                yield from self.words.get(inner.name, ())
            elif (
                isinstance(inner, nodes.Call) and isinstance(inner.node, nodes.Name) and inner.node.name in self.macros
            ):
                for argument in (*inner.args, *inner.kwargs):
                    yield from _constants(argument)

    def hand_on(self, call: nodes.Call, macro: str) -> None:
        """Follow the user's words into a macro."""
        names = self.macros.get(macro, [])
        self.tainted |= {name for name, value in zip(names, call.args, strict=False) if self.reads(value)}
        self.tainted |= {keyword.key for keyword in call.kwargs if keyword.key in names and self.reads(keyword.value)}

    def hidden(self, node: nodes.Node) -> Iterator[tuple[str, int, str]]:
        """Constructions that write one text or another by what the user wrote."""
        line = node.lineno
        if isinstance(node, nodes.CondExpr) and self.asks(node.test):
            yield from (("text in an inline condition", line, text) for text in _constants(node.expr1))
            yield from (("text in an inline condition", line, text) for text in _constants(node.expr2))
        elif isinstance(node, nodes.And | nodes.Or | nodes.Mul) and self.asks(node.left) != self.asks(node.right):
            other = node.right if self.asks(node.left) else node.left
            yield from (("text chosen by an operator", line, text) for text in (*_strings(other), *self.held(other)))
        elif isinstance(node, nodes.Getitem) and self.reads(node.arg):
            looked_up = (*_constants(node.node), *self.held(node.node))
            yield from (("text looked up by what the user wrote", line, text) for text in looked_up)
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr in _LOOKUPS:
            if any(self.reads(argument) for argument in node.args) or self.reads(node.node.node):
                for source in (node.node.node, *node.args[1:]):
                    yield from (("text put in place of the user's", line, text) for text in _constants(source))
        elif isinstance(node, nodes.Filter) and node.name == "replace" and node.node and self.reads(node.node):
            for source in node.args[1:]:
                yield from (("text put in place of the user's", line, text) for text in _constants(source))

    def reads(self, node: nodes.Node | None) -> bool:
        """True if the value of an expression holds what a user wrote."""
        if node is None:
            return False
        if isinstance(node, nodes.Name):
            return node.name in self.tainted
        if _spelt(node) in self.tainted:
            return True
        owner = _owner(node, CONTENT)
        if owner is not None:
            return repr(owner) not in self.of_system
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and self.is_whole(node.node.node):
            return node.node.attr in ("values", "items", "__str__")
        if isinstance(node, nodes.Filter):
            named = any(isinstance(constant, nodes.Const) and constant.value == CONTENT for constant in _all(node))
            whole = node.name in (*TO_TEXT[:3], "items", "dictsort") and self.is_whole(node.node)
            return (named and node.name in TO_TEXT) or whole or (node.name != "length" and self.reads(node.node))
        if isinstance(node, nodes.Test):
            return node.name not in SHAPE_TESTS and self.reads(node.node)
        if isinstance(node, nodes.Concat) and any(self.is_whole(part) for part in node.nodes):
            return True
        return any(self.reads(child) for child in node.iter_child_nodes())

    def asks(self, test: nodes.Node) -> bool:
        """True if a test asks for certain words, or lengths, of what a user wrote, or for a variable set so."""
        for node in (test, *test.find_all((nodes.Compare, nodes.Call, nodes.Test, nodes.Name, nodes.Getattr))):
            if isinstance(node, nodes.Compare) and self._compares(node):
                return True
            if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and self._calls(node):
                return True
            if isinstance(node, nodes.Test) and self._tests(node):
                return True
            if _spelt(node) in self.flags or self._selects(node):
                return True
        return self._selects(test) or any(self._selects(node) for node in test.find_all(nodes.Filter))

    def _selects(self, node: nodes.Node) -> bool:
        """True for a choice among messages by their content, and for a macro that is asked about it."""
        if isinstance(node, nodes.Filter) and node.name in ("selectattr", "rejectattr", "select", "reject", "groupby"):
            named = any(isinstance(argument, nodes.Const) and argument.value == CONTENT for argument in node.args[:1])
            return len(node.args) > 1 and (named or self.reads(node.node))
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in self.asking:
            return any(self.reads(argument) for argument in node.args)
        return False

    def _compares(self, node: nodes.Compare) -> bool:
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        if not any(self.reads(side) or self._measures(side) for side in sides):
            return False
        constants = [value for side in sides for value in _values(side)]
        parts = any(name.name in self.parts for side in sides for name in _names(side))
        parts = parts and not any(_owner(inner, "text") for side in sides for inner in _all(side))
        if any(self._splits(side) for side in sides):
            return True
        return any(self._counts(value, parts=parts) for value in constants) or not constants

    def _counts(self, value: object, *, parts: bool) -> bool:
        if isinstance(value, str):
            return bool(value.strip()) and not (parts and value in PARTS) and value != CONTENT
        return isinstance(value, int | float) and not isinstance(value, bool) and value not in (0, 1)

    def _measures(self, node: nodes.Node) -> bool:
        filters = [node, *node.find_all(nodes.Filter)]
        return any(
            isinstance(entry, nodes.Filter) and entry.name in ("length", "count") and self.reads(entry.node)
            for entry in filters
        )

    def _splits(self, node: nodes.Node) -> bool:
        calls = [entry for entry in _all(node) if isinstance(entry, nodes.Call)]
        return any(self.reads(call.node) and any(_values(argument) for argument in call.args) for call in calls)

    def _calls(self, node: nodes.Call) -> bool:
        asked = isinstance(node.node, nodes.Getattr) and node.node.attr in _QUESTIONS and self.reads(node.node.node)
        return asked and any(_values(argument) for argument in node.args)

    def _tests(self, node: nodes.Test) -> bool:
        sides = [node.node, *node.args]
        if node.name in SHAPE_TESTS or not any(self.reads(side) for side in sides):
            return False
        parts = any(name.name in self.parts for name in _names(node.node))
        return any(self._counts(value, parts=parts) for side in sides for value in _values(side))

    def note(self, text: str, place: _Place, how: str, least: int) -> None:
        words = len(_WORD.findall(_ROLES.sub(" ", _MARK.sub(" ", text))))
        if place.line and words >= least:
            self.texts.append(HiddenText(line=place.line, words=words, how=how))


_QUESTIONS = ("startswith", "endswith", "find", "index", "count", "rfind", "isupper", "islower", "__contains__")
_LOOKUPS = ("get", "replace", "format", "pop", "join")


def _plain(body: Sequence[nodes.Node]) -> Iterator[str]:
    """Texts that a body writes, whatever the conditions in it."""
    for statement in body:
        for node in _all(statement):
            if isinstance(node, nodes.TemplateData):
                yield node.data
            elif isinstance(node, nodes.Output):
                yield from (text for part in node.nodes for text in _written(part))


def _targets(target: nodes.Node) -> set[str]:
    """Names that are set, of a namespace with its field."""
    if isinstance(target, nodes.NSRef):
        return {f"{target.name}.{target.attr}"}
    return {name.name for name in (target, *target.find_all(nodes.Name)) if isinstance(name, nodes.Name)}


def _spelt(node: nodes.Node) -> str:
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        return f"{node.node.name}.{node.attr}"
    return ""


def _names(node: nodes.Node | None) -> Iterator[nodes.Name]:
    for entry in _all(node):
        if isinstance(entry, nodes.Name):
            yield entry


def _all(node: nodes.Node | None) -> Iterator[nodes.Node]:
    if node is not None:
        yield node
        yield from node.find_all(nodes.Node)


def _values(node: nodes.Node) -> list[object]:
    """Constants that an expression is compared with; keys of what is read are none of them."""
    if isinstance(node, nodes.Const):
        return [node.value]
    if isinstance(node, nodes.Getitem | nodes.Getattr | nodes.Filter):
        return []
    return [value for child in node.iter_child_nodes() for value in _values(child)]


def _constants(node: nodes.Node | None) -> Iterator[str]:
    """Texts within an expression, keys of what is read left out."""
    if node is None or (isinstance(node, nodes.Getitem) and isinstance(node.node, nodes.Name)):
        return
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    for child in node.iter_child_nodes():
        yield from _constants(child)


def _strings(node: nodes.Node) -> Iterator[str]:
    """Texts that an operand writes: a test of its own writes none."""
    if not isinstance(node, nodes.Compare | nodes.Test | nodes.Not | nodes.Call):
        yield from _constants(node)


def _written(node: nodes.Node) -> Iterator[str]:
    """Texts that an expression may write: constants and what they are joined to, not what is asked for or looked up."""
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, nodes.Add | nodes.Concat | nodes.CondExpr | nodes.And | nodes.Or | nodes.Mul | nodes.Filter):
        for child in node.iter_child_nodes():
            if child is not getattr(node, "test", None):
                yield from _written(child)
    elif isinstance(node, nodes.List | nodes.Tuple | nodes.Dict | nodes.Pair):
        for child in node.iter_child_nodes():
            yield from _written(child)


def _owner(node: nodes.Node, key: str) -> nodes.Node | None:
    """The message of which ``key`` is read; None where something else is."""
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr == "get":
        named = [argument for argument in node.args[:1] if isinstance(argument, nodes.Const) and argument.value == key]
        return node.node.node if named else None
    if isinstance(node, nodes.Getattr) and node.attr == key:
        return node.node
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and node.arg.value == key:
        return node.node
    return None


def _systems(test: nodes.Node) -> Iterator[str]:
    """Messages that are the system's wherever a test holds."""
    if isinstance(test, nodes.And):
        yield from _systems(test.left)
        yield from _systems(test.right)
    elif isinstance(test, nodes.Compare) and len(test.ops) == 1 and test.ops[0].op == "eq":
        sides = (test.expr, test.ops[0].expr)
        if any(isinstance(side, nodes.Const) and side.value in ("system", "developer") for side in sides):
            yield from (repr(owner) for side in sides if (owner := _owner(side, "role")) is not None)
