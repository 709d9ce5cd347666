# SPDX-License-Identifier: Apache-2.0
"""Any number of hands that start the same command on one file system.

The first takes a lease and leads: it does all that one process would do, and lays what shards are to be made from into
the store. The others find it there. A shard is made by whoever takes its lease; a hand that dies loses the shard it was
at, and when it was the one that leads, another takes its place and goes on from the shards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from reticent.core import hands, sealed
from reticent.core.errors import BadInput
from reticent.core.lease import Lease, Leases
from reticent.core.sealed import seal_of
from reticent.score.cache import drop, intact, key_of, lease_of
from reticent.score.candidates.memory import steady_heap
from reticent.score.workers.job import Job, OpenModels, read_job, write_job
from reticent.score.workers.shard_kinds import Advance, OpenShards, told_nobody
from reticent.score.workers.worker import WORKERS, Meeting, Worker, working

R = TypeVar("R")


class JoinedWorker:
    """The hand that leads: it asks the others, and does what they leave.

    Args:
        folder: where the others look.
        at_start: called before others are asked for the first time.
    """

    def __init__(self, folder: Path, at_start: Callable[[], None] = lambda: None) -> None:
        self._folder, self._leases, self._at_start = folder, Leases(), at_start

    def fill(self, work: OpenShards, advance: Advance) -> None:
        left = work.missing(advance)
        if len(left) < 2:
            for shard in left:
                work.make_in_turn(shard, advance)
            return
        self._at_start()
        job = Job.of(work, left)
        path = (
            self._folder / f"{key_of([model.key for model in job.models], [file.name for file in job.files])}.parquet"
        )
        write_job(job, path)
        try:
            self._fill(work, left, advance)
        finally:
            path.unlink(missing_ok=True)

    def _fill(self, work: OpenShards, left: list[int], advance: Advance) -> None:
        while left:
            waiting = []
            for shard in left:
                file = work.files[shard]
                if sealed.intact(file):  # a shared store is asked once the lease is ours, and not at each look
                    advance(work.size(shard))
                elif (lease := self._leases.take(lease_of(file))) is None:
                    waiting.append(shard)
                else:
                    with lease:
                        if intact(file):
                            advance(work.size(shard))
                        else:
                            work.make(shard, advance)
            if len(waiting) == len(left):
                time.sleep(hands.PAUSE)
            left = waiting


class HelpingHand:
    """A hand that makes shards which another asked for.

    Args:
        folder: where those who lead ask.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._leases, self._models = folder, Leases(), OpenModels()
        self._jobs: dict[Path, Job | None] = {}

    def help(self) -> bool:
        """Make a shard that nobody is at, if there is one; whether there was.

        Raises:
            BadInput: the model cannot be opened or scored here, or the store cannot be seen.
        """
        paths = sorted(self._folder.glob("*.parquet"))
        self._jobs = {path: self._jobs.get(path) or read_job(path) for path in paths}
        return any(job is not None and self._help(path, job) for path, job in self._jobs.items())

    def _help(self, path: Path, job: Job) -> bool:
        for shard in reversed(range(len(job.files))):  # the one that leads begins at the other end
            file = job.files[shard]
            if seal_of(file).exists() or (lease := self._leases.take(lease_of(file))) is None:
                continue
            with lease:
                # Shards that go, go after what asked for them: one that is missing while that is there is wanted.
                if not intact(file) and path.exists():
                    self._make(path, job, shard, lease)
                    return True
        return False

    def _make(self, path: Path, job: Job, shard: int, lease: Lease) -> None:
        try:
            with steady_heap():
                job.opened(self._models).make(shard, told_nobody)
        except (BadInput, OSError):
            if path.exists():
                raise
            return  # nobody wants it any more, and its model may be gone
        # Who leads may have seen the shard before we come here, and asks no more: that is no reason to take it away.
        if job.passing and not lease.held and not path.exists():  # somebody took us for dead, and the table is whole
            drop(job.files[shard])


@contextmanager
def meeting_folder(folder: Path) -> Iterator[None]:
    """A place to meet that is empty at the start, but for the lease of who leads, and gone at the end."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.glob("*.parquet"):  # of one who died
        path.unlink(missing_ok=True)
    try:
        yield
    finally:
        for path in folder.glob("*.parquet"):
            path.unlink(missing_ok=True)


@contextmanager
def join(meeting: Meeting) -> Iterator[Worker]:
    """Yield the worker of the hand that leads. To be opened by `lead_or_help`, which holds the lease."""
    with meeting_folder(meeting.folder):
        yield JoinedWorker(meeting.folder)


WORKERS.add("join", join)


def lead_or_help(folder: Path, *, asked: str, lead: Callable[[], R], done: Callable[[], R | None]) -> R:
    """Do ``lead`` once among all hands that call this with one ``folder``: one leads, the others make shards for it.

    Args:
        folder: where they meet, below the store.
        asked, lead, done: as `reticent.core.hands.lead_or_help` takes them.

    Raises:
        BadInput: the hand that leads was asked for something else; or as ``lead``, or as `HelpingHand.help`.
    """

    def joined() -> R:
        with join(Meeting(folder=folder)) as opened, working(opened):
            return lead()

    help_out = HelpingHand(folder).help
    return hands.lead_or_help(folder, flag="--workers join", asked=asked, lead=joined, help_out=help_out, done=done)
