# SPDX-License-Identifier: Apache-2.0
"""Expressions of a chat template that hold what the user wrote, and those that ask about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from jinja2 import nodes

from reticent.scanning.files.template_syntax import (
    constants,
    every,
    function,
    handed,
    method,
    names_in,
    owner,
    spelt,
)

CONTENT = "content"
WHOLE = ("messages", "message", "conversation", "history")
"""Names for messages; turned into text as a whole they hold their content."""
TO_TEXT = ("string", "tojson", "join", "list", "map", "last", "first", "reverse", "select", "selectattr")
BY_ATTRIBUTE = (*TO_TEXT, "sum", "max", "min", "unique", "sort", "groupby", "batch", "slice", "random")
STILL_WHOLE = ("list", "first", "last", "reverse", "sort", "unique", "batch", "slice", "random", "default", "d")
CHOOSING = ("selectattr", "rejectattr", "select", "reject", "groupby")
COUNTING = ("length", "count")
SHAPE_TESTS = ("string", "none", "defined", "undefined", "mapping", "iterable", "sequence", "boolean", "number", "true")
OF_CASE, OF_NUMBERS = ("upper", "lower"), ("divisibleby", "odd", "even")
PARTS = ("type", "text", "image", "image_url", "video", "audio", "input_audio", "input_image", "json", "document")
"""Keys and kinds of the parts of a message."""
DATES = ("strftime_now", "now", "today", "utcnow")
QUESTIONS = ("startswith", "endswith", "find", "index", "count", "rfind", "rindex", "__contains__")
PREDICATES = ("isupper", "islower", "istitle", "isdigit", "isnumeric", "isdecimal", "isalpha", "isalnum", "isascii")
CUTS = ("split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix", "replace", "strip")
TO_NUMBERS = ("int", "float", "wordcount")
_STAYS = ("strip", "lstrip", "rstrip", "replace", "lower", "upper", "trim", "removeprefix", "removesuffix")
_LACKING = ("defined", "undefined", "none")
_WITH_WORDS = ("format", "format_map", "join")


@dataclass
class Questions:
    """Knowledge of variables, and the questions that are asked of it.

    Args:
        dates: whether the date is followed, in place of the user's words.
    """

    dates: bool = False
    tainted: set[str] = field(default_factory=set)
    flags: set[str] = field(default_factory=set)
    """Variables that were set under a condition on the user's words."""
    parts: set[str] = field(default_factory=set)
    """Loop variables over the parts of a message."""
    measured: set[str] = field(default_factory=set)
    """Variables that hold a length of the user's words."""
    pieces: set[str] = field(default_factory=set)
    """Variables that hold pieces of the user's words."""
    edited: set[str] = field(default_factory=set)
    """Variables that were set to a text of the user's under a condition; that it is a text says nothing of that."""
    odd: set[str] = field(default_factory=set)
    """Variables that may hold something else than a text."""
    lacking: set[str] = field(default_factory=set)
    """Variables that are there only where the user's words could be cut."""
    asking: set[str] = field(default_factory=set)
    """Macros that answer by what the user wrote."""
    of_system: dict[str, frozenset[str]] = field(default_factory=dict)
    """Messages of which a test around this place says that they are the system's, with their variables."""
    wholes: set[str] = field(default_factory=lambda: set(WHOLE))
    """Variables that hold messages as a whole."""
    words: dict[str, list[str]] = field(default_factory=dict)
    """Texts that a variable holds, or a macro writes, wherever they were set."""

    # ---- what an expression holds -----------------------------------------------------------------------------------

    def is_whole(self, node: nodes.Node | None) -> bool:
        """True for messages, or one of them, as a whole."""
        if node is None or self.dates or owner(node, CONTENT) is not None:
            return False
        if isinstance(node, nodes.Name):
            return node.name in self.wholes
        if isinstance(node, nodes.Getitem):
            by_name = isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str)
            return not by_name and self.is_whole(node.node)
        if isinstance(node, nodes.Filter):
            still = node.name in (*STILL_WHOLE, *CHOOSING) or (node.name == "map" and not node.kwargs)
            return still and self.is_whole(node.node)
        if isinstance(node, nodes.List | nodes.Tuple):
            return any(self.is_whole(item) for item in node.items)
        if isinstance(node, nodes.Add):
            return self.is_whole(node.left) or self.is_whole(node.right)
        return method(node) in ("keys", "copy") and self.is_whole(node.node.node)  # type: ignore[attr-defined]

    def reads(self, node: nodes.Node | None) -> bool:
        """True if the value of an expression holds what a user wrote."""
        if node is None:
            return False
        if isinstance(node, nodes.Name):
            return node.name in self.tainted
        if spelt(node) in self.tainted or (self.dates and function(node) in DATES):
            return True
        message = owner(node, CONTENT)
        if message is not None:
            return not self.dates and repr(message) not in self.of_system
        if isinstance(node, nodes.Filter):
            return self._filter_reads(node)
        if isinstance(node, nodes.Test):
            return node.name not in SHAPE_TESTS and self.reads(node.node)
        if self._looks_up(node) or self._makes_text(node):
            return True
        return any(self.reads(child) for child in node.iter_child_nodes())

    def _looks_up(self, node: nodes.Node) -> bool:
        """True for an item of a message by a key that a variable holds."""
        key, place = None, None
        if isinstance(node, nodes.Getitem):
            key, place = node.arg, node.node
        elif method(node) == "get" and isinstance(node, nodes.Call):
            key, place = next(iter(node.args), None), node.node.node  # type: ignore[attr-defined]
        if not isinstance(key, nodes.Name) or self.dates:
            return False
        return CONTENT in self.words.get(key.name, ()) or (key.name in self.wholes and self.is_whole(place))

    def _makes_text(self, node: nodes.Node) -> bool:
        """True for messages as a whole that become a text."""
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
            if self.is_whole(node.node.node):
                return node.node.attr in ("values", "items", "__str__")
            return node.node.attr in _WITH_WORDS and any(self._holds_whole(value) for value in handed(node))
        if isinstance(node, nodes.Concat):
            return any(self.is_whole(part) for part in node.nodes)
        return isinstance(node, nodes.Mod) and self._holds_whole(node.right)

    def _holds_whole(self, node: nodes.Node) -> bool:
        return self.is_whole(node)

    def _filter_reads(self, node: nodes.Filter) -> bool:
        by_content = any(isinstance(inner, nodes.Const) and inner.value == CONTENT for inner in every(node))
        by_content = by_content or any(
            CONTENT in self.words.get(name.name, ()) for value in handed(node) for name in names_in(value)
        )
        if by_content and node.name in BY_ATTRIBUTE and not self.dates:
            return True
        if self.is_whole(node.node):
            shapes = (*STILL_WHOLE, *CHOOSING, *COUNTING, "map")
            return node.name not in shapes
        if node.name == "format" and any(self._holds_whole(value) for value in handed(node)):
            return True
        return node.name != "length" and (self.reads(node.node) or any(self.reads(value) for value in handed(node)))

    def measures(self, node: nodes.Node) -> bool:
        """True for a length of what a user wrote."""
        for entry in every(node):
            if isinstance(entry, nodes.Filter) and entry.name in COUNTING and self.reads(entry.node):
                return True
            if spelt(entry) in self.measured:
                return True
        return False

    def is_piece(self, node: nodes.Node | None) -> bool:
        """True for what is cut out of a text of the user's: a text, and no part of a message."""
        cut = (*CUTS, "splitlines", "lower", "upper")
        return any(
            spelt(entry) in self.pieces or (method(entry) in cut and self.reads(entry.node.node))  # type: ignore[attr-defined]
            for entry in every(node)
        )

    def stays_text(self, value: nodes.Node) -> bool:
        """True for a value that is a text whatever the user wrote."""
        if isinstance(value, nodes.Getitem):
            return _is_there(value.arg) and method(value.node) in CUTS
        return method(value) in _STAYS or (isinstance(value, nodes.Filter) and value.name in _STAYS)

    def may_lack(self, value: nodes.Node | None) -> bool:
        """True for a piece that is there only where the user's words could be cut."""
        for node in every(value):
            if isinstance(node, nodes.Getitem) and self.is_piece(node.node) and not _is_there(node.arg):
                return True
            if spelt(node) in self.lacking:
                return True
        return False

    def values(self, node: nodes.Node) -> list[object]:
        """Constants that an expression is compared with, in variables too; keys of what is read are none of them."""
        if isinstance(node, nodes.Const):
            return [node.value]
        if isinstance(node, nodes.Name):
            return [] if node.name in self.tainted else list(self.words.get(node.name, ()))
        if isinstance(node, nodes.Getitem | nodes.Getattr | nodes.Filter):
            return []
        return [value for child in node.iter_child_nodes() for value in self.values(child)]

    def held(self, node: nodes.Node, *, own: bool = False) -> Iterator[str]:
        """Texts that stand elsewhere and are written here: of a variable, of a macro, and what a macro is handed.

        ``own``: those that hold what the user wrote are left out.
        """
        for inner in every(node):
            if isinstance(inner, nodes.Name) and inner.ctx == "load" and not (own and inner.name in self.tainted):
                yield from self.words.get(inner.name, ())

    # ---- what a condition asks --------------------------------------------------------------------------------------

    def decides(self, test: nodes.Node) -> bool:
        """True for a condition that asks, or that holds where a text of the user's can be cut."""
        return self.asks(test) or any(self._cut_here(node) for node in every(test))

    def _cut_here(self, node: nodes.Node) -> bool:
        if isinstance(node, nodes.Filter) and node.name in TO_NUMBERS:
            return self.reads(node.node)
        if not isinstance(node, nodes.Getitem):
            return False
        inner = node.node
        if isinstance(inner, nodes.Name) and inner.name in self.pieces:
            return True
        return method(inner) in CUTS and isinstance(inner, nodes.Call) and self._asks_by_method(inner, CUTS)

    def asks(self, test: nodes.Node) -> bool:
        """True if a test asks for certain words, or lengths, of what a user wrote, or for a variable set so."""
        of_shape = {
            id(entry.node) for entry in every(test) if isinstance(entry, nodes.Test) and entry.name in SHAPE_TESTS
        }
        for node in (test, *test.find_all((nodes.Compare, nodes.Call, nodes.Test, nodes.Name, nodes.Getattr))):
            if isinstance(node, nodes.Compare) and self._compares(node):
                return True
            if isinstance(node, nodes.Call) and self._asks_by_method(node, QUESTIONS):
                return True
            if isinstance(node, nodes.Test) and self._tests(node):
                return True
            if spelt(node) in self.flags or self._selects(node):
                return True
            if spelt(node) in self.edited and (id(node) not in of_shape or spelt(node) in self.odd):
                return True
        return self._selects(test) or any(self._selects(node) for node in test.find_all(nodes.Filter))

    def _asks_by_method(self, node: nodes.Call, names: tuple[str, ...]) -> bool:
        name = method(node)
        if name not in (*names, *PREDICATES) or not self.reads(node.node.node):  # type: ignore[attr-defined]
            return False
        return name in PREDICATES or any(self.values(value) for value in handed(node))

    def _selects(self, node: nodes.Node) -> bool:
        """True for a choice among messages by their content, and for a macro that is asked about it."""
        if isinstance(node, nodes.Filter) and node.name in CHOOSING:
            by = next((argument.value for argument in node.args[:1] if isinstance(argument, nodes.Const)), None)
            by_words = (by == CONTENT and not self.dates) or (by != "type" and self.reads(node.node))
            return len(node.args) > 1 and by_words
        if isinstance(node, nodes.Call) and function(node) in self.asking:
            return any(self.reads(argument) for argument in handed(node))
        return False

    def _compares(self, node: nodes.Compare) -> bool:
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        if any(self.is_whole(side) for side in sides):
            tables = [inner for side in sides for inner in every(side) if isinstance(inner, nodes.Dict)]
            if any(table.items for table in tables):
                return True
        if not any(self.reads(side) or self.measures(side) for side in sides):
            return False
        values = [value for side in sides for value in self.values(side)]
        parts = any(name.name in self.parts for side in sides for name in names_in(side))
        parts = parts and not any(owner(inner, "text") for side in sides for inner in every(side))
        if any(self._splits(side) for side in sides):
            return True
        return any(self._counts(value, parts=parts) for value in values) or not values

    def _counts(self, value: object, *, parts: bool) -> bool:
        if isinstance(value, str):
            return bool(value.strip()) and not (parts and value in PARTS) and value != CONTENT
        return isinstance(value, int | float) and not isinstance(value, bool) and value not in (0, 1)

    def _splits(self, node: nodes.Node) -> bool:
        if any(name.name in self.pieces for name in names_in(node)) and self.measures(node):
            return True
        calls = [entry for entry in every(node) if isinstance(entry, nodes.Call)]
        return any(self.reads(call.node) and any(self.values(argument) for argument in call.args) for call in calls)

    def _tests(self, node: nodes.Test) -> bool:
        sides = [node.node, *node.args]
        if node.name in OF_NUMBERS and self.measures(node.node):
            return True
        if node.name in _LACKING and self.may_lack(node.node):
            return True
        if node.name in SHAPE_TESTS or not any(self.reads(side) for side in sides):
            return False
        parts = any(name.name in self.parts for name in names_in(node.node))
        values = [value for side in sides for value in self.values(side)]
        return node.name in OF_CASE or any(self._counts(value, parts=parts) for value in values)


def _is_there(place: nodes.Node) -> bool:
    """True for the first and the last of a list of pieces, which any text has."""
    if isinstance(place, nodes.Neg):
        return isinstance(place.node, nodes.Const) and place.node.value == 1
    return isinstance(place, nodes.Const) and place.value in (0, -1)


def texts_of(node: nodes.Node | None) -> list[str]:
    """Texts within an expression, as a list."""
    return list(constants(node))
