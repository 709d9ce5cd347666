# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster: actors hold the models, tasks are shards, and this process keeps what comes back.

Actors need no sight of the store. One that dies is started again by Ray, a few times; then the others do its part, and
in the end this process. Ray is an extra and is imported when it is asked for. A cluster that runs is used where
``RAY_ADDRESS`` names one; else one is started on this machine, without usage statistics, and ended.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.table import TokenTable
from reticent.models.locate import first_line
from reticent.score.cache import keep
from reticent.score.candidates.memory import steady_heap
from reticent.score.make_tables import scored
from reticent.score.render import RenderedRecords
from reticent.score.workers.job import ModelPlace, OpenModels
from reticent.score.workers.worker import WORKERS, Advance, Meeting, OpenTable, Worker

STARTS = 2
"""Times that Ray starts a dead actor again, and gives it its shard again."""
STORE = 256 * 2**20
"""Bytes for what is on its way between processes of a cluster that is started here: a few shards."""


class ScoringActor:
    """A process of Ray that holds the models it was asked for.

    Args:
        threads: of its own.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        console.quiet = True
        self._models = OpenModels()

    def make(self, model: ModelPlace, part: RenderedRecords) -> TokenTable | tuple[str, str, str]:
        """A shard, or the three parts of a refusal: errors of this package do not travel whole."""
        try:
            with steady_heap():
                return scored(part, self._models.side(model))
        except BadInput as error:
            return error.given, error.why, error.fix


@dataclass(kw_only=True, eq=False)
class _Cluster:
    """Actors of a cluster that runs.

    Args:
        ray: the package.
        count: actors that are wanted; 0 for one a core, or one a GPU.
        started: whether the cluster was started here.
        actors: those that live, once there is something to do.
    """

    ray: Any
    count: int
    started: bool
    actors: list[Any] = field(default_factory=list)

    def fill(self, table: OpenTable, advance: Advance) -> None:
        left = deque(table.missing(advance))
        if len(left) < 2:
            for shard in left:
                table.make(shard, advance)
            return
        model = ModelPlace.of(table.side)
        if not self.actors:
            self.actors = self._start(on_gpu=model.device == "cuda")
        idle = list(self.actors)
        pending: dict[Any, tuple[int, Any]] = {}
        while left or pending:
            while left and idle:
                shard, actor = left.popleft(), idle.pop()
                pending[actor.make.remote(model, table.texts.part(table.slices[shard]))] = shard, actor
            if not pending:  # all actors are dead
                table.make(left.popleft(), advance)
                continue
            (ready, *_), _ = self.ray.wait(list(pending))
            shard, actor = pending.pop(ready)
            try:
                outcome = self.ray.get(ready)
            except self.ray.exceptions.RayActorError:
                left.appendleft(shard)
                self._bury(actor)
                continue
            if isinstance(outcome, tuple):
                raise BadInput(*outcome)
            keep(outcome, table.files[shard])
            advance(table.size(shard))
            idle.append(actor)

    def _start(self, *, on_gpu: bool) -> list[Any]:
        there = self.ray.cluster_resources()
        room = int(there.get("GPU" if on_gpu else "CPU", 1))
        threads = max(1, torch.get_num_threads() // (self.count or room))
        actor = self.ray.remote(ScoringActor).options(
            num_cpus=1, num_gpus=int(on_gpu), max_restarts=STARTS, max_task_retries=STARTS
        )
        return [actor.remote(1 if self.started else threads) for _ in range(max(1, min(self.count or room, room)))]

    def _bury(self, actor: Any) -> None:
        self.actors.remove(actor)
        console.print(f"A worker of Ray died; {len(self.actors) or 'none'} left.", style="yellow", highlight=False)

    def end(self) -> None:
        """End all actors."""
        for actor in self.actors:
            self.ray.kill(actor)
        self.actors.clear()


@contextmanager
def on_ray(meeting: Meeting) -> Iterator[Worker]:
    """Yield a worker whose shards are made on a Ray cluster.

    Raises:
        BadInput: Ray is not installed, or no cluster can be had.
    """
    ray = _ray()
    with WORKERS.get("here")(meeting):
        pass  # takes away what a killed command left
    ours, place = not ray.is_initialized(), ""
    try:
        if ours:
            place = _begin(ray, meeting.count)
        cluster = _Cluster(ray=ray, count=meeting.count, started=bool(place))
        try:
            yield cluster
        finally:
            cluster.end()
    finally:
        if ours:
            ray.shutdown()
        if place:
            shutil.rmtree(place, ignore_errors=True)


WORKERS.add("ray", on_ray)


def _begin(ray: Any, count: int) -> str:
    """Find a cluster, or start one; the folder of one that was started, else nothing."""
    address = os.environ.get("RAY_ADDRESS", "")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    place = "" if address else tempfile.mkdtemp(prefix="rr-")  # short: sockets lie in it
    if not address:
        settings |= {"num_cpus": count or os.cpu_count() or 1, "include_dashboard": False, "_temp_dir": place}
        settings |= {"object_store_memory": STORE}
    try:
        ray.init(address=address or "local", **settings)
    except Exception as error:  # Ray raises errors of many kinds where a cluster cannot be had
        with suppress(Exception):
            ray.shutdown()
        if place:
            shutil.rmtree(place, ignore_errors=True)
        raise BadInput(
            f"RAY_ADDRESS={address}" if address else "--workers ray",
            f"no Ray cluster can be had ({type(error).__name__}: {first_line(error)[:200]})",
            "Start one (ray start --head), or use --workers 2.",
        ) from error
    return place


def _ray() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise BadInput(
            "--workers ray", "needs Ray, which is not installed", "pip install 'reticent[ray]', or use --workers 2."
        ) from error
    return ray
