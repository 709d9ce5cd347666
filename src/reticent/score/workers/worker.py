# SPDX-License-Identifier: Apache-2.0
"""The seam between shards that are wanted and those who make them. The contract is small because of the store: a shard
is a file that is named by all that it is made from, so whoever makes it makes the same, and nobody has to be told what
another did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from reticent.core import sealed
from reticent.core.errors import BadInput
from reticent.core.registry import Registry
from reticent.score.workers.shard_kinds import Advance, OpenShards

MOST = 1024
"""Workers."""


class Worker(Protocol):
    """A way to fill the store."""

    def fill(self, work: OpenShards, advance: Advance) -> None:
        """See to it that all shards of ``work`` lie in the store, by whoever makes them.

        Killed at any moment, it leaves whole shards or none. A shard of a table that goes again, as another table drops
        it, is no fault: the caller scores what it does not find.

        Args:
            work: of which any number of shards may be there already.
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

    def fill(self, work: OpenShards, advance: Advance) -> None:
        for shard, file in enumerate(work.files):
            if sealed.intact(file):  # a shared store is asked once it is our turn
                advance(work.size(shard))
            else:
                work.make_in_turn(shard, advance)


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
