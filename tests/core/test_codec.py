# SPDX-License-Identifier: Apache-2.0
"""Dataclasses come back from JSON as they were, by their types, and the schema is of the same types."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reticent.core.codec import Mismatch, decode, encode
from reticent.core.field_types import FLAT, AtLeast, Count, FreeForm, Lower, OneOf, Share, Upper
from reticent.core.json_schema import schema_of


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Ends:
    """An interval.

    Args:
        lo, hi: its ends;
            either may be open.
    """

    lo: Lower
    hi: Upper


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A leaf.

    Args:
        name: of the leaf.
    """

    name: str


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Everything that a field can be.

    Args:
        ends: flat.
        colour: ``red`` or ``blue``.
        kind: a word.
        size: a count.
        shares: some.
        pair: two kinds.
        leaves: further ones.
        cell: one of several.
        by_name: leaves by name.
        free: anything.
        maybe: or nothing.
    """

    derived: ClassVar[tuple[str, ...]] = ("large",)

    ends: Ends = field(metadata=FLAT)
    colour: Colour
    kind: Annotated[str, OneOf("a", "b")]
    size: Count
    shares: Annotated[tuple[Share, ...], AtLeast(1)]
    pair: tuple[float, int]
    leaves: tuple[Leaf, ...]
    cell: Leaf | Ends | int | float | str | None
    by_name: dict[str, Leaf]
    free: FreeForm = field(default_factory=dict)
    word: Literal["yes", "no"] = "yes"
    """What is said."""
    maybe: Share | None = None

    @property
    def large(self) -> bool:
        """Whether it is large."""
        return self.size > 9


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.builds(Leaf, name=st.text())
ENDS = st.builds(Ends, lo=NUMBERS | st.just(-math.inf), hi=NUMBERS | st.just(math.inf))
TREES = st.builds(
    Tree,
    ends=ENDS,
    colour=st.sampled_from(Colour),
    kind=st.sampled_from("ab"),
    size=st.integers(0, 10**9),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=3).map(tuple),
    pair=st.tuples(NUMBERS, st.integers()),
    leaves=st.lists(LEAVES, max_size=2).map(tuple),
    cell=st.none() | LEAVES | ENDS | st.integers() | NUMBERS | st.text(),
    by_name=st.dictionaries(st.text(), LEAVES, max_size=2),
    free=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())),
    word=st.sampled_from(["yes", "no"]),
    maybe=st.none() | st.floats(0, 1),
)
SCHEMA = schema_of(Tree, title="a tree", about="A tree.", constants={"format": ("tree", "Its mark.")})
TREE = Tree(
    ends=Ends(lo=-math.inf, hi=1.0), colour=Colour.RED, kind="a", size=10, shares=(0.5,), pair=(1.5, 2),
    leaves=(Leaf(name="x"),), cell=0.25, by_name={"b": Leaf(name="b"), "a": Leaf(name="a")}, free={"b": 1, "a": 2},
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(TREES)
def test_what_is_decoded_is_what_was_encoded_and_keeps_to_the_schema(tree: Tree) -> None:
    content = json.loads(json.dumps(encode(tree), allow_nan=False))
    assert decode(Tree, content) == tree
    assert content["large"] is (tree.size > 9)
    Draft202012Validator(SCHEMA).validate({"format": "tree"} | content)


def test_the_shape_is_plain() -> None:
    assert encode(TREE) == {
        "lo": None, "hi": 1.0, "colour": "red", "kind": "a", "size": 10, "shares": [0.5], "pair": [1.5, 2],
        "leaves": [{"name": "x"}], "cell": 0.25, "by_name": {"b": {"name": "b"}, "a": {"name": "a"}},
        "free": {"a": 2, "b": 1}, "word": "yes", "maybe": None, "large": True,
    }  # fmt: skip
    assert list(encode(TREE)["by_name"]) == ["b", "a"]
    assert list(encode(TREE)["free"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "place", "why"),
    [
        ({"colour": "green"}, "colour", "'green' is not one of"),
        ({"kind": "c"}, "kind", "is not one of a, b"),
        ({"size": -1}, "size", "out of its range"),
        ({"size": True}, "size", "finite number"),
        ({"size": 1.5}, "size", "whole number"),
        ({"size": 10**400}, "size", "finite number"),
        ({"shares": []}, "shares", "needs 1"),
        ({"shares": [0.5, 2]}, "shares/1", "out of its range"),
        ({"shares": 0.5}, "shares", "no array"),
        ({"pair": [1.0]}, "pair", "needs 2"),
        ({"pair": [1.0, "2"]}, "pair/1", "finite number"),
        ({"leaves": [{"name": 7}]}, "leaves/0/name", "no str"),
        ({"leaves": [{"name": "a", "age": 7}]}, "leaves/0", "unknown fields .age."),
        ({"leaves": [{}]}, "leaves/0", "'name' is missing"),
        ({"cell": [1]}, "cell", "is no"),
        ({"cell": {"name": 1}}, "cell/name", "no str"),
        ({"by_name": {"x": 1}}, "by_name/x", "no object"),
        ({"word": "maybe"}, "word", "not one of yes, no"),
        ({"maybe": 2}, "maybe", "out of its range"),
        ({"lo": "x"}, "lo", "finite number"),
        ({"hi": float("inf")}, "hi", "finite number"),
    ],
)
def test_what_is_of_another_shape_is_refused_with_its_place(changes: dict[str, Any], place: str, why: str) -> None:
    with pytest.raises(Mismatch, match=why) as refused:
        decode(Tree, encode(TREE) | changes)
    assert refused.value.place == place


def test_what_is_missing_takes_its_default_where_it_has_one() -> None:
    content = {key: value for key, value in encode(TREE).items() if key not in ("free", "word", "maybe", "large")}
    assert decode(Tree, content).word == "yes"
    with pytest.raises(Mismatch, match="'hi' is missing"):
        decode(Tree, {key: value for key, value in content.items() if key != "hi"})
    with pytest.raises(Mismatch, match="no object"):
        decode(Tree, [content])


def test_the_schema_says_what_the_docstrings_say() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    fields = SCHEMA["properties"]
    assert fields["lo"] == {"type": ["number", "null"], "description": "Its ends; either may be open."}
    assert fields["word"] == {"enum": ["yes", "no"], "description": "What is said."}
    assert fields["large"] == {"type": "boolean", "description": "Whether it is large."}
    assert fields["colour"]["description"] == "`red` or `blue`."
    assert fields["shares"]["minItems"] == 1
    assert SCHEMA["required"] == list(fields)
    assert SCHEMA["$defs"]["leaf"]["description"] == "A leaf."


def test_a_number_that_json_does_not_have_is_not_written() -> None:
    broken = Tree(**{**vars(TREE), "pair": (math.inf, 1)})
    with pytest.raises(ValueError, match="JSON"):
        json.dumps(encode(broken), allow_nan=False)
