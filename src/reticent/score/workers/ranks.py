# SPDX-License-Identifier: Apache-2.0
"""The processes that torchrun, accelerate or srun started: shards are dealt out, and process 0 joins them.

Each keeps its shards in the one store, so all have to see it. One that fails ends the others; the same command again,
with any number of processes, finds the shards that were made.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from reticent.core.atomic import parents_of
from reticent.core.errors import BadInput
from reticent.score.candidates.memory import steady_heap
from reticent.score.workers.job import Job, OpenModels
from reticent.score.workers.shard_kinds import Advance, OpenShards, told_nobody
from reticent.score.workers.worker import WORKERS, Meeting, Worker

Crew = Callable[[], Any]
"""Gives the processes of the command, in each of them."""


class _DealingWorker:
    """The process that leads.

    Args:
        crew: a function of a module.
        folder: below the store, for this command alone.
    """

    def __init__(self, crew: Crew, folder: Path) -> None:
        self._crew, self._folder = crew, folder

    def fill(self, work: OpenShards, advance: Advance) -> None:
        here = self._crew()
        left = work.missing(advance)
        mine, *others = dealt(left, here.size)
        if not any(others):
            for shard in mine:
                work.make_in_turn(shard, advance)
            return
        theirs = [shard for share in others for shard in share]
        with _witness(self._folder) as witness:
            here.all_do(_share, self._crew, Job.of(work, theirs), dealt_places(others), witness)
            for shard in mine:
                work.make_in_turn(shard, advance)
            here.gather(None)
        for shard in theirs:
            advance(work.size(shard))


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


@contextmanager
def _witness(folder: Path) -> Iterator[Path]:
    """A file by which others see that they look into the same store. A shard is none: another audit may drop it."""
    with parents_of(folder / "witness"):
        witness = folder / f"{secrets.token_hex(8)}.witness"
        witness.touch(mode=0o600)
        try:
            yield witness
        finally:
            witness.unlink(missing_ok=True)


def _share(crew: Crew, job: Job, places: Sequence[Sequence[int]], witness: Path) -> None:
    """The part of a process that follows."""
    here = crew()
    if not witness.exists():
        raise _unseen(job.files[0].parent)
    mine = places[here.rank - 1]
    with steady_heap():
        for place in mine:
            job.opened(_models()).make_in_turn(place, told_nobody)
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
        yield _DealingWorker(meeting.crew, meeting.folder)


WORKERS.add("ranks", ranks)
