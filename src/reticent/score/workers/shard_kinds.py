# SPDX-License-Identifier: Apache-2.0
"""Shards: files of the store that are named by all that they are made from, and how one of each kind is made.

A kind is all that a worker has to know: what a shard is made from (its part), who makes it of a part and models, how it
is kept, and how parts are written down for a process that shares nothing but the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from reticent.core.lease import Leases
from reticent.core.registry import Registry
from reticent.score.cache import intact, lease_of
from reticent.score.scored_model import ScoredModel

Advance: TypeAlias = Callable[[int], None]
"""Told how many more texts are done."""


def told_nobody(texts: int) -> None:
    """Where nobody watches how far the work is."""


class ShardKind(Protocol):
    """Shards of one kind. What one holds follows from its part and the models, whoever makes it.

    Args:
        name: a key of `SHARD_KINDS`.
        passing: whether shards go once they are joined; else they are what is wanted, and stay.
    """

    name: str
    passing: bool

    def size(self, part: Any) -> int:
        """Texts in a part, for progress."""

    def make(self, part: Any, sides: Sequence[ScoredModel], advance: Advance) -> Any:
        """The content of a shard; runs the models.

        Args:
            part: what it is made from.
            sides: one model, or the target and what it is compared with.
            advance: told how many texts are done.

        Raises:
            BadInput: a model cannot be used.
        """

    def keep(self, content: Any, file: Path) -> None:
        """Write and seal what ``make`` gave, whole or not at all."""

    def pack(self, parts: Sequence[Any]) -> pa.Table:
        """Parts as columns; nothing of it is code."""

    def unpack(self, table: pa.Table) -> list[Any]:
        """The parts that ``pack`` wrote."""


SHARD_KINDS: Registry[ShardKind] = Registry("kind of shard", "reticent.score")
"""By name, what can be made by other processes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenShards:
    """Shards that are to lie in the store.

    Args:
        kind: of all of them.
        sides: the models that they are made by: one for most kinds.
        parts: what each is made from.
        files: where each is kept.
    """

    kind: ShardKind
    sides: Sequence[ScoredModel]
    parts: Sequence[Any]
    files: Sequence[Path]

    def size(self, shard: int) -> int:
        """Texts in a shard."""
        return self.kind.size(self.parts[shard])

    def missing(self, advance: Advance) -> list[int]:
        """Shards that are not in the store; the texts of the others are told to ``advance``."""
        whole = [intact(file) for file in self.files]
        for shard, is_there in enumerate(whole):
            if is_there:
                advance(self.size(shard))
        return [shard for shard, is_there in enumerate(whole) if not is_there]

    def make(self, shard: int, advance: Advance) -> None:
        """Make a shard in this process, and keep it. For who holds its lease."""
        self.kind.keep(self.kind.make(self.parts[shard], self.sides, advance), self.files[shard])

    def make_in_turn(self, shard: int, advance: Advance) -> None:
        """Make a shard while nobody else does; one that another process made in the meantime is not made again."""
        with Leases().turn(lease_of(self.files[shard])):
            if intact(self.files[shard]):
                advance(self.size(shard))
            else:
                self.make(shard, advance)


def packed(parts: Sequence[Any]) -> pa.Table:
    """Parts that are plain values, as one column.

    Examples:
        >>> unpacked(packed([{"a": [1, 0.1]}, None]))
        [{'a': [1, 0.1]}, None]
    """
    return pa.table({"part": pa.array([json.dumps(part) for part in parts], pa.string())})


def unpacked(table: pa.Table) -> list[Any]:
    """The values that `packed` wrote."""
    return [json.loads(part) for part in table.column("part").to_pylist()]
