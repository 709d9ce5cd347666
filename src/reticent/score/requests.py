# SPDX-License-Identifier: Apache-2.0
"""Requests of an attack to the scorer: a model and a rendering of the records. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from reticent.core.errors import BadInput
from reticent.core.record import Record

Propose: TypeAlias = Callable[[Record, int, float], Sequence[Record]]
"""``propose(record, copies, fraction)``: copies of the record in which about that fraction of the trained tokens is
replaced by ones that the reference model finds likely at that place."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderContext:
    """Inputs of a rendering besides the record.

    Args:
        rng: seeded from the record's id and the variant's name, so that the same record is always rendered alike.
        known_members: records that the attacker is assumed to know to be members; never evaluated.
        known_held_out: records that the attacker is assumed to know to be held out; never evaluated.
        propose: replaces tokens with likely ones; None when there is no reference model.

    Examples:
        >>> RenderContext(rng=np.random.default_rng(0)).propose is None
        True
    """

    rng: np.random.Generator
    known_members: Sequence[Record] = ()
    known_held_out: Sequence[Record] = ()
    propose: Propose | None = None


Render: TypeAlias = Callable[[Record, RenderContext], Sequence[Record]]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to rewrite every record before it is scored. The plain text is the variant without ``render``.

    Two variants are the same when name, copies, params and version are: ``render`` is left out of the comparison, so
    that a ``functools.partial`` made twice asks for one table, not two.

    Args:
        name: unique; lower case with underscores. Part of the seed and of the cache key.
        copies: how many renderings each record gets; they become adjacent rows of the table.
        render: gives exactly ``copies`` records for a record. Pure: what it returns follows from its arguments. May be
            called more than once for a record, each time with a fresh ``context.rng`` in the same state.
        params: settings of ``render``, so that other settings are another variant.
        version: increment when ``render`` changes what it returns.
        needs: fields of the context that ``render`` cannot do without; where one is missing, the attacks that ask for
            the variant are switched off by name.

    Examples:
        >>> from dataclasses import replace
        >>> def upper(record, context):
        ...     return [replace(record, text=record.text.upper())]
        ...
        >>> Variant(name="upper", render=upper).key
        'upper/v1/x1/()'
    """

    name: str
    copies: int = 1
    render: Render | None = field(default=None, compare=False)
    params: tuple[object, ...] = ()
    version: int = 1
    needs: tuple[Literal["known_members", "known_held_out", "propose"], ...] = ()

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"variant {self.name!r} has {self.copies} copies, it needs at least 1")
        if self.render is None and self.copies != 1:
            raise ValueError(f"variant {self.name!r} has no render, so it has 1 copy, not {self.copies}")

    @property
    def key(self) -> str:
        """Stable text that identifies the variant in cache keys and messages."""
        return f"{self.name}/v{self.version}/x{self.copies}/{self.params!r}"


PLAIN = Variant(name="plain")
"""The record as it is."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One table that an attack reads: ``model`` scored on ``variant`` of the records.

    Args:
        name: what the attack calls the table, e.g. ``"ref"``.
        model: the fine-tuned model, or the one it is compared with (by default the base it was tuned from).
        variant: the rendering.

    Examples:
        >>> Request(name="ref", model="reference").variant.name
        'plain'
    """

    name: str
    model: Literal["target", "reference"] = "target"
    variant: Variant = PLAIN


def rng_for(record: Record, name: str) -> np.random.Generator:
    """The generator of one record under one name (of a variant): the same in every run and on every machine."""
    digest = hashlib.sha256(f"{name}\0{record.id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def rendered(record: Record, variant: Variant, context: RenderContext) -> list[Record]:
    """The copies of ``record`` under ``variant``.

    Raises:
        BadInput: the variant's ``render`` did not give the number of copies that it declares, or changed the id.
    """
    if variant.render is None:
        return [record]
    copies = list(variant.render(record, context))
    if len(copies) != variant.copies or any(copy.id != record.id for copy in copies):
        raise BadInput(
            f"variant {variant.name!r}",
            f"gave {len(copies)} record(s) with ids {sorted({copy.id for copy in copies})} for {record.id!r}",
            f"Its render must return {variant.copies} record(s) with the id of the record.",
        )
    return copies
