# SPDX-License-Identifier: Apache-2.0
"""The seam between a table that is wanted and those who score its shards. The contract is small because of the store: a
shard is a file that is named by all that it is made from, so whoever makes it makes the same, and nobody has to be told
what another did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from reticent.core.errors import BadInput
from reticent.core.registry import Registry
from reticent.score.cache import intact
from reticent.score.render import RenderedRecords
from reticent.score.scored_model import ScoredModel

Advance: TypeAlias = Callable[[int], None]
"""Told how many more texts are done."""
MOST = 1024
"""Workers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenTable:
    """A table whose shards are to lie in the store.

    Args:
        side: the model that scores.
        texts: of the whole table.
        slices: the texts of each shard.
        files: where each shard is kept.
        make: ``make(shard, advance)`` scores a shard in this process and keeps it.
    """

    side: ScoredModel
    texts: RenderedRecords
    slices: Sequence[slice]
    files: Sequence[Path]
    make: Callable[[int, Advance], None]

    def size(self, shard: int) -> int:
        """Texts in a shard."""
        return self.slices[shard].stop - self.slices[shard].start

    def missing(self, advance: Advance) -> list[int]:
        """Shards that are not in the store; the texts of the others are told to ``advance``."""
        whole = [intact(file) for file in self.files]
        for shard, is_there in enumerate(whole):
            if is_there:
                advance(self.size(shard))
        return [shard for shard, is_there in enumerate(whole) if not is_there]


class Worker(Protocol):
    """A way to fill the store."""

    def fill(self, table: OpenTable, advance: Advance) -> None:
        """See to it that all shards of ``table`` lie in the store, by whoever makes them.

        Killed at any moment, it leaves whole shards or none. A shard that goes again, as another table drops it, is
        no fault: the caller scores what it does not find.

        Args:
            table: of which any number of shards may be there already.
            advance: told the texts that are done, each once.

        Raises:
            BadInput: a model cannot be scored, or somebody who was to help cannot.
        """


@dataclass(frozen=True, kw_only=True)
class WorkersWanted:
    """Workers as a person asks for them.

    Args:
        name: of the way, a key of `WORKERS`.
        count: processes; 0 for as many as there is room for.

    Examples:
        >>> read_workers("4")
        WorkersWanted(name='spawned', count=4)
        >>> read_workers("ray:2"), read_workers("1").name
        (WorkersWanted(name='ray', count=2), 'here')
    """

    name: str = "here"
    count: int = 0


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """A meeting of those who help one command.

    Args:
        folder: below the store, for what is asked of others; belongs to this command alone while it runs.
        count: processes; 0 for as many as there is room for.
        crew: gives the processes that a launcher started (`reticent.train.ranks.ranks`), as a function of a module, so
            that it can be named to them; None where there is one.
    """

    folder: Path
    count: int = 0
    crew: Callable[[], Any] | None = None


Opening: TypeAlias = Callable[[Meeting], AbstractContextManager[Worker]]

WORKERS: Registry[Opening] = Registry("way to work", "reticent.score.workers")
"""By name, what opens workers and, at the end, ends all that it started."""


def read_workers(text: str) -> WorkersWanted:
    """``"4"``: processes on this machine; ``"join"``: all who start the same command; ``"ray"`` or ``"ray:4"``: a Ray
    cluster.

    Raises:
        BadInput: it is none of these.
    """
    name, colon, number = text.strip().partition(":")
    if name.isdecimal() and not colon:
        name, number = "spawned", name
    refused = BadInput(
        f"--workers {text[:40]}",
        f"is no number from 1 to {MOST:,}, and neither join nor ray",
        "Give --workers 4 for four processes on this machine, --workers join in each of several terminals or machines, "
        "or --workers ray.",
    )
    counted = bool(colon) or name == "spawned"
    if name not in ("spawned", "join", "ray") or (counted and name == "join"):
        raise refused
    if counted and not (number.isdecimal() and number.isascii() and len(number) < 9 and 1 <= int(number) <= MOST):
        raise refused
    count = int(number) if counted else 0
    return WorkersWanted() if (name, count) == ("spawned", 1) else WorkersWanted(name=name, count=count)


class _Here:
    """This process alone."""

    def fill(self, table: OpenTable, advance: Advance) -> None:
        for shard, file in enumerate(table.files):
            if intact(file):
                advance(table.size(shard))
            else:
                table.make(shard, advance)


HERE: Worker = _Here()
_AT_WORK = [HERE]


def worker() -> Worker:
    """The one who fills the store for the command that is under way.

    Examples:
        >>> worker() is HERE
        True
    """
    return _AT_WORK[-1]


@contextmanager
def working(opened: Worker) -> Iterator[None]:
    """Within this context ``opened`` fills the store."""
    _AT_WORK.append(opened)
    try:
        yield
    finally:
        _AT_WORK.remove(opened)
