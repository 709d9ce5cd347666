# SPDX-License-Identifier: Apache-2.0
"""The processes that torchrun, accelerate or srun started: shards are dealt out, and process 0 joins them.

Each keeps its shards in the one store, so all have to see it. One that fails ends the others; the same command again,
with any number of processes, finds the shards that were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.sealed import seal_of
from reticent.score.cache import intact, keep
from reticent.score.candidates.memory import steady_heap
from reticent.score.make_tables import scored
from reticent.score.workers.job import Job, OpenModels
from reticent.score.workers.worker import WORKERS, Advance, Meeting, OpenTable, Worker

Crew = Callable[[], Any]
"""Gives the processes of the command, in each of them."""


class _DealingWorker:
    """The process that leads.

    Args:
        crew: a function of a module.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def fill(self, table: OpenTable, advance: Advance) -> None:
        here = self._crew()
        left = table.missing(advance)
        mine, *others = dealt(left, here.size)
        if any(others):
            job = Job.of(table, [shard for share in others for shard in share])
            here.all_do(_share, self._crew, job, dealt_places(others))
        for shard in mine:
            table.make(shard, advance)
        if not any(others):
            return
        here.gather(None)
        for shard in (shard for share in others for shard in share):
            if not seal_of(table.files[shard]).exists():
                raise _unseen(table.files[shard].parent)
            advance(table.size(shard))


def dealt(shards: Sequence[int], size: int) -> list[list[int]]:
    """The shards of each of ``size`` processes, every ``size``-th.

    >>> dealt([0, 1, 2, 4, 5], 2)
    [[0, 2, 5], [1, 4]]
    """
    return [list(shards[rank::size]) for rank in range(size)]


def dealt_places(shares: Sequence[Sequence[int]]) -> list[list[int]]:
    """Where the shards of each share stand when all shares are laid end to end.

    >>> dealt_places([[1, 4], [7]])
    [[0, 1], [2]]
    """
    places = iter(range(sum(map(len, shares))))
    return [[next(places) for _ in share] for share in shares]


def _share(crew: Crew, job: Job, places: Sequence[Sequence[int]]) -> None:
    """The part of a process that follows."""
    here = crew()
    mine = places[here.rank - 1]
    with steady_heap():
        for place in mine:
            file = job.files[place]
            if not file.parent.parent.is_dir():
                raise _unseen(file.parent)
            if not intact(file):
                keep(scored(job.part(place), _models().side(job.model)), file)
    here.gather(None)


@cache
def _models() -> OpenModels:
    return OpenModels()


def _unseen(folder: object) -> BadInput:
    return BadInput(
        str(folder),
        "is the store of process 0, and not all processes work in it",
        "Give all processes one cache (RETICENT_CACHE) on a file system that all of them see.",
    )


@contextmanager
def ranks(meeting: Meeting) -> Iterator[Worker]:
    """Yield the worker of process 0."""
    assert meeting.crew is not None
    with WORKERS.get("here")(meeting):
        yield _DealingWorker(meeting.crew)


WORKERS.add("ranks", ranks)
