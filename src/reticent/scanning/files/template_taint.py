# SPDX-License-Identifier: Apache-2.0
"""Text of a chat template that appears only under a condition on what the user wrote, or on the date.

A walk over the syntax tree follows the content of messages through variables, loops and filters. A branch whose test
reads it, and which writes words of its own, speaks for the publisher behind the user's back. Marks of roles and turns
(``<|im_start|>``, ``[INST]``) are no words, and what the system prompt says is the operator's, not the user's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jinja2 import nodes

from reticent.scanning.files.template_questions import PARTS, Questions, texts_of
from reticent.scanning.files.template_syntax import (
    every,
    function,
    handed,
    method,
    names_in,
    plain,
    put_together,
    spelt,
    strings,
    systems,
    targets,
    word_count,
    work,
    written,
)

MOST_HELD = 50
"""Texts of one variable that are kept."""
PASSES = 3
"""A variable may be read above the line that sets it, in a loop or a macro; three passes follow it through two."""
MOST_WORK = 50_000
"""Steps of a walk, by the measure of `work`. Of 170 templates that are in use the largest takes 4,000."""
_LOOKUPS = ("get", "replace", "format", "pop", "join")
_STORING = ("append", "extend", "insert", "update", "setdefault", "add")
_LEAVING = (nodes.Break, nodes.Continue)


class TooMuchToFollow(Exception):
    """The template is nested so much that following it would take minutes."""


@dataclass(frozen=True, kw_only=True)
class HiddenText:
    """Words under a condition on the user's.

    Args:
        line: of the condition.
        words: how many it writes.
        how: the construction, in words.
        dates: whether the condition is on the date, not on what the user wrote.
    """

    line: int
    words: int
    how: str
    dates: bool = False


def hidden_texts(template: nodes.Template) -> list[HiddenText]:
    """All of a template, by line.

    Raises:
        TooMuchToFollow: its expressions are nested too much.
    """
    if work(template) > MOST_WORK:
        raise TooMuchToFollow
    found: set[HiddenText] = set()
    for dates in (False, True):
        walk = _Walk(dates=dates, wholes=set() if dates else Questions().wholes)
        for _ in range(PASSES):
            walk.texts = []
            walk.body(template.body, _Place())
        found |= set(walk.texts)
    return sorted(found, key=lambda text: (text.line, text.how, text.dates))


@dataclass(frozen=True)
class _Place:
    """A place in the tree: the line of the condition on the user's words that it is under; 0 for none."""

    line: int = 0


@dataclass
class _Walk(Questions):
    macros: dict[str, list[str]] = field(default_factory=dict)
    """Names of their arguments."""
    texts: list[HiddenText] = field(default_factory=list)

    def body(self, statements: Sequence[nodes.Node], place: _Place) -> None:
        for statement in statements:
            self.statement(statement, place)
            if isinstance(statement, nodes.If) and not place.line:
                place = self.behind(statement, place)

    def behind(self, node: nodes.If, place: _Place) -> _Place:
        """The place of what follows a branch that may leave the loop: it is under the branch's test as well."""
        for branch in (node, *node.elif_):
            leaves = any(isinstance(inner, _LEAVING) for part in branch.body for inner in every(part))
            if leaves and self.decides(branch.test):
                return _Place(line=branch.lineno)
        return place

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
            self.macro(node)
        elif isinstance(node, nodes.With):
            for target, value in zip(node.targets, node.values, strict=True):
                self.bind(target, value, place)
        elif isinstance(node, nodes.AssignBlock):
            names = targets(node.target)
            self.words |= {name: list(plain(node.body)) for name in names}
            self.tainted |= names if self.writes_user(node.body) else set()
            self.flags |= names if place.line or self.branches(node) else set()
        elif isinstance(node, nodes.FilterBlock):
            read = any(self.reads(part) for statement in node.body for part in every(statement))
            for source in self.replacing(node.filter) if read else ():
                self.note(source, _Place(line=node.lineno), "text put in place of the user's", 1)

    def macro(self, node: nodes.Macro) -> None:
        """Note what a macro takes, writes and asks."""
        names = [name.name for name in node.args]
        self.macros[node.name] = names
        self.words[node.name] = list(plain(node.body))
        for name, value in zip(names[len(names) - len(node.defaults) :], node.defaults, strict=True):
            self.keep(name, texts_of(value))
        if self.branches(node):
            self.asking.add(node.name)
        if self.writes_user(node.body):
            self.tainted.add(node.name)

    def branches(self, node: nodes.Node) -> bool:
        """True for a body with a branch that asks."""
        return any(self.asks(branch.test) for branch in node.find_all(nodes.If))

    def writes_user(self, body: Sequence[nodes.Node]) -> bool:
        """True for a body that writes what the user wrote."""
        outputs = [node for part in body for node in every(part) if isinstance(node, nodes.Output)]
        return any(self.reads(part) for output in outputs for part in output.nodes)

    def branch(self, node: nodes.If, place: _Place) -> None:
        outside = self.of_system
        for branch in (node, *node.elif_):
            here = {repr(part): frozenset(name.name for name in names_in(part)) for part in systems(branch.test)}
            self.of_system = outside | here
            inner = _Place(line=place.line or (branch.lineno if self.decides(branch.test) else 0))
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
        names = targets(target)
        if self.reads(value):
            self.tainted |= names
            self.pieces |= names if self.is_piece(value) and not self.stays_text(value) else set()
            self.lacking |= names if self.may_lack(value) else set()
        if self.measures(value):
            self.measured |= names
        if place.line or self.asks(value):
            is_text = self.reads(value) and self.stays_text(value)
            self.edited |= names if is_text else set()
            self.flags |= set() if is_text else names
        constant = isinstance(value, nodes.Const) and isinstance(value.value, str)
        self.odd |= set() if constant or self.reads(value) or self.stays_text(value) else names
        if self.is_whole(value):
            self.wholes |= names
        self.rebind(names)
        for name in names:
            self.keep(name, texts_of(value))

    def keep(self, name: str, texts: Sequence[str]) -> None:
        """Keep the texts that a variable may hold."""
        if texts:
            self.words[name] = list(dict.fromkeys([*self.words.get(name, []), *texts]))[:MOST_HELD]

    def rebind(self, names: set[str]) -> None:
        """A variable that is set anew is no message of the system's any more."""
        self.of_system = {shown: inside for shown, inside in self.of_system.items() if not inside & names}

    def loop(self, node: nodes.For, place: _Place) -> None:
        names = targets(node.target)
        again = [call for part in node.body for call in every(part) if function(call) == "loop"]
        if self.reads(node.iter):
            self.tainted |= names
            self.parts |= set() if self.is_piece(node.iter) else names
        if any(self.reads(value) for call in again for value in call.args):  # type: ignore[attr-defined]
            self.tainted |= names
        if self.is_whole(node.iter):
            self.wholes |= names
        outside = self.of_system
        self.rebind(names)
        self.expression(node.iter, place, silent=True)
        plain_parts = spelt(node.iter) in self.edited and spelt(node.iter) not in self.flags and _over_parts(node)
        chosen = not plain_parts and self.decides(node.iter)
        chosen = chosen or (node.test is not None and self.decides(node.test))
        inner = _Place(line=place.line or (node.lineno if chosen else 0))
        self.body(node.body, inner)
        self.body(node.else_, inner)
        self.of_system = outside

    # ---- expressions ------------------------------------------------------------------------------------------------

    def expression(self, node: nodes.Node, place: _Place, *, least: int = 1, silent: bool = False) -> None:
        """Texts that an expression writes under a condition within it, or at a place that is under one."""
        if place.line and not silent:
            for text in put_together([*written(node), *self.held(node), *self.for_macros(node)]):
                self.note(text, place, "text", least)
        for inner in (node, *node.find_all(nodes.Expr)):
            if isinstance(inner, nodes.Call):
                self.hand_on(inner)
                self.store(inner, place)
            for how, line, texts in self.hidden(inner):
                for text in put_together(texts):
                    self.note(text, _Place(line=line), how, 1)

    def for_macros(self, node: nodes.Node) -> Iterator[str]:
        """Texts that a macro is handed."""
        for inner in every(node):
            if function(inner) in self.macros and isinstance(inner, nodes.Call):
                for argument in (*inner.args, *inner.kwargs):
                    yield from texts_of(argument)

    def hand_on(self, call: nodes.Call) -> None:
        """Follow the user's words, and texts, into a macro."""
        names = self.macros.get(function(call), [])
        pairs = [*zip(names, call.args, strict=False), *((entry.key, entry.value) for entry in call.kwargs)]
        for name, value in pairs:
            if name not in names:
                continue
            self.tainted |= {name} if self.reads(value) else set()
            self.wholes |= {name} if self.is_whole(value) else set()
            self.keep(name, [*texts_of(value), *self.held(value, own=True)])

    def store(self, call: nodes.Call, place: _Place) -> None:
        """Follow the user's words, and texts, into a list or a table."""
        if method(call) not in _STORING:
            return
        names = {spelt(part) for part in every(call.node.node)} - {""}  # type: ignore[attr-defined]
        for value in handed(call):
            self.tainted |= names if self.reads(value) else set()
            for text in texts_of(value) if place.line else ():
                self.note(text, place, "text", 1)

    def hidden(self, node: nodes.Node) -> Iterator[tuple[str, int, list[str]]]:
        """Constructions that write one text or another by what the user wrote."""
        line = node.lineno
        if isinstance(node, nodes.CondExpr) and self.decides(node.test):
            for part in (node.expr1, node.expr2):
                yield "text in an inline condition", line, self.kept(part)
        elif isinstance(node, nodes.And | nodes.Or | nodes.Mul) and self.decides(node.left) != self.decides(node.right):
            other = node.right if self.decides(node.left) else node.left
            yield "text chosen by an operator", line, [*strings(other), *self.held(other)]
        elif isinstance(node, nodes.Getitem) and self.reads(node.arg):
            yield "text looked up by what the user wrote", line, [*texts_of(node.node), *self.held(node.node)]
        elif isinstance(node, nodes.Call) and method(node) in _LOOKUPS:
            yield "text put in place of the user's", line, self.looked_up(node)
        elif isinstance(node, nodes.Filter) and node.node is not None:
            yield "text put in place of the user's", line, self.filtered(node)

    def looked_up(self, node: nodes.Call) -> list[str]:
        """Texts that a method may give in place of the user's."""
        target = node.node.node  # type: ignore[attr-defined]
        if not (self.reads(target) or any(self.reads(argument) for argument in node.args)):
            return []
        return [text for source in (target, *node.args[1:]) for text in self.kept(source)]

    def filtered(self, node: nodes.Filter) -> list[str]:
        """Texts that a filter puts in place of the user's, or cuts by what the user wrote."""
        if node.name == "replace" and self.reads(node.node):
            return self.replacing(node)
        return self.kept(node.node) if any(self.decides(value) for value in handed(node)) else []

    def kept(self, node: nodes.Node | None) -> list[str]:
        """Texts of an expression, in variables too, but for those of the user's own words."""
        return [] if node is None else [*texts_of(node), *self.held(node, own=True)]

    def replacing(self, node: nodes.Filter) -> list[str]:
        """Texts that ``replace`` puts in."""
        sources = [*node.args[1:], *(entry.value for entry in node.kwargs if entry.key != "old")]
        return [text for source in sources for text in self.kept(source)]

    def note(self, text: str | list[str], place: _Place, how: str, least: int) -> None:
        words = word_count(text) if isinstance(text, str) else sum(map(word_count, text))
        if place.line and words >= least:
            self.texts.append(HiddenText(line=place.line, words=words, how=how, dates=self.dates))


def _over_parts(node: nodes.For) -> bool:
    """True for a loop whose body asks what kind of part of a message it has."""
    names = targets(node.target)
    tests = [test for part in node.body for test in every(part) if isinstance(test, nodes.Compare)]
    return any(
        {name.name for name in names_in(test)} & names and any(text in PARTS for text in texts_of(test))
        for test in tests
    )
