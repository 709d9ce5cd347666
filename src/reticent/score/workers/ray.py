# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster: actors hold the models, tasks are shards, and this process keeps what comes back.

Actors need no sight of the store. One that dies is started again by Ray, a few times; then the others do its part, and
in the end this process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.ray_cluster import RayCluster, ray_cluster
from reticent.score.candidates.memory import steady_heap
from reticent.score.workers.job import ModelPlace, OpenModels
from reticent.score.workers.shard_kinds import SHARD_KINDS, Advance, OpenShards, told_nobody
from reticent.score.workers.worker import WORKERS, Meeting, Worker

STARTS = 2
"""Times that Ray starts a dead actor again, and gives it its shard again."""


class ScoringActor:
    """A process of Ray that holds the models it was asked for.

    Args:
        threads: of its own.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        console.quiet = True
        self._models = OpenModels()

    def make(self, kind: str, models: Sequence[ModelPlace], part: Any) -> Any:
        """The content of a shard, or the three parts of a refusal: errors of this package do not travel whole."""
        try:
            with steady_heap():
                return SHARD_KINDS.get(kind).make(part, [*map(self._models.side, models)], told_nobody)
        except BadInput as error:
            return error.given, error.why, error.fix


@dataclass(kw_only=True, eq=False)
class _Actors:
    """Actors of a cluster that runs.

    Args:
        cluster: they are of.
        count: actors that are wanted; 0 for one a core, or one a GPU.
        actors: those that live, once there is something to do.
    """

    cluster: RayCluster
    count: int
    actors: list[Any] = field(default_factory=list)

    def fill(self, work: OpenShards, advance: Advance) -> None:
        left = deque(work.missing(advance))
        if len(left) < 2:
            for shard in left:
                work.make_in_turn(shard, advance)
            return
        models = [*map(ModelPlace.of, work.sides)]
        if not self.actors:
            self.actors = self._start(on_gpu=models[0].device == "cuda")
        idle = list(self.actors)
        pending: dict[Any, tuple[int, Any]] = {}
        while left or pending:
            while left and idle:
                shard, actor = left.popleft(), idle.pop()
                pending[actor.make.remote(work.kind.name, models, work.parts[shard])] = shard, actor
            if not pending:  # all actors are dead
                work.make_in_turn(left.popleft(), advance)
                continue
            (ready, *_), _ = self.cluster.ray.wait(list(pending))
            shard, actor = pending.pop(ready)
            try:
                outcome = self.cluster.ray.get(ready)
            except self.cluster.ray.exceptions.RayActorError:
                left.appendleft(shard)
                self._bury(actor)
                continue
            if isinstance(outcome, tuple):
                raise BadInput(*outcome)
            work.kind.keep(outcome, work.files[shard])
            advance(work.size(shard))
            idle.append(actor)

    def _start(self, *, on_gpu: bool) -> list[Any]:
        room = self.cluster.room(on_gpu=on_gpu)
        threads = max(1, torch.get_num_threads() // (self.count or room))
        actor = self.cluster.ray.remote(ScoringActor).options(
            num_cpus=1, num_gpus=int(on_gpu), max_restarts=STARTS, max_task_retries=STARTS
        )
        return [
            actor.remote(1 if self.cluster.started else threads) for _ in range(max(1, min(self.count or room, room)))
        ]

    def _bury(self, actor: Any) -> None:
        self.actors.remove(actor)
        console.print(f"A worker of Ray died; {len(self.actors) or 'none'} left.", style="yellow", highlight=False)

    def end(self) -> None:
        """End all actors."""
        for actor in self.actors:
            self.cluster.ray.kill(actor)
        self.actors.clear()


@contextmanager
def on_ray(meeting: Meeting) -> Iterator[Worker]:
    """Yield a worker whose shards are made on a Ray cluster.

    Raises:
        BadInput: Ray is not installed, or no cluster can be had.
    """
    with ray_cluster("--workers ray", cores=meeting.count, instead="--workers 2") as cluster:
        with WORKERS.get("here")(meeting):
            pass  # takes away what a killed command left
        actors = _Actors(cluster=cluster, count=meeting.count)
        try:
            yield actors
        finally:
            actors.end()


WORKERS.add("ray", on_ray)
