# SPDX-License-Identifier: Apache-2.0
"""The trainings of a comparison on a Ray cluster: each is a task, alone in its process, that writes its own folder.

All machines of the cluster have to see the folder of the comparison and the base at the same paths. A process that dies
is started again twice, and goes on from its last checkpoint.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reticent.comparison.cell_processes import OUTPUT
from reticent.comparison.config import RAY
from reticent.comparison.trial import main
from reticent.core.ray_cluster import RayCluster, ray_cluster

AGAIN = 2
"""Times that Ray starts a training again whose process died."""
CORES = 4
"""Of one training, where nobody says how many are to go on at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RayTrainings:
    """A cluster that trains.

    Args:
        cluster: it is.
        at_once: trainings at the same time.
        cores: of each.
        on_gpu: each has a GPU of its own.
        needed: places that a machine has to see.
    """

    cluster: RayCluster
    at_once: int
    cores: int
    on_gpu: bool
    needed: tuple[Path, ...] = ()
    _pending: list[Any] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def train(self, folder: Path, given: Sequence[str]) -> str:
        """Train the cell in ``folder``, and wait for it.

        Args:
            folder: of the cell.
            given: what `reticent.comparison.trial.main` is given.

        Returns:
            Why there may be no outcome; empty where nothing speaks against one.
        """
        ray = self.cluster.ray
        task = ray.remote(num_cpus=self.cores, num_gpus=int(self.on_gpu), max_retries=AGAIN, max_calls=1)(_train)
        root, *more = given
        words = (str(Path(root).absolute()), *more)
        pending = task.remote(Path.cwd(), folder.absolute(), self.needed, words, self.cores)
        self._pending.append(pending)
        if self._ended.is_set():
            self._end()
        try:
            reason: str = ray.get(pending)
        except ray.exceptions.RayError as error:
            return f"a worker of Ray ended ({type(error).__name__}); see {OUTPUT} in its folder"
        return reason

    @contextmanager
    def ended_on_error(self) -> Iterator[None]:
        """End all trainings where this context is left by an error or by Ctrl-C, which Ray's processes do not get."""
        try:
            yield
        except BaseException:
            self._ended.set()
            self._end()
            raise

    def _end(self) -> None:
        for pending in list(self._pending):  # of those that are done nothing comes
            self.cluster.ray.cancel(pending, force=True)


@contextmanager
def ray_trainings(count: int, device: str, models: Sequence[str] = ()) -> Iterator[RayTrainings]:
    """Yield a cluster for trainings.

    Args:
        count: trainings at the same time; 0 for one on each GPU, or on every four cores.
        device: of the trainings.
        models: that are trained or used. Those that are folders here have to be so on all machines: a training that
            does not find its model would be refused for good.

    Raises:
        BadInput: Ray is not installed, or no cluster can be had.
    """
    with ray_cluster(f"--jobs {RAY}", cores=0, instead="--jobs 2") as cluster:
        on_gpu = device != "cpu" and cluster.ray.cluster_resources().get("GPU", 0) >= 1
        alive = [node["Resources"] for node in cluster.ray.nodes() if node["Alive"]]
        nodes = [int(node.get("CPU", 0)) for node in alive if node.get("GPU", 0) >= 1 or not on_gpu] or [1]
        at_once = count or (cluster.room(on_gpu=True) if on_gpu else max(1, sum(nodes) // CORES))
        cores = max(1, min(sum(nodes) // at_once, max(nodes)))  # more than one machine has would be waited for for ever
        yield RayTrainings(cluster=cluster, at_once=at_once, cores=cores, on_gpu=on_gpu, needed=_places(models))


def _places(models: Sequence[str]) -> tuple[Path, ...]:
    folders = [Path(model).expanduser() for model in models if model]
    folders = [folder for folder in folders if folder.is_dir()]
    from_here = [Path.cwd()] if any(not folder.is_absolute() for folder in folders) else []
    return (*from_here, *(folder.absolute() for folder in folders))


def _train(place: Path, folder: Path, needed: tuple[Path, ...], given: tuple[str, ...], cores: int) -> str:
    """In a worker of Ray."""
    unseen = next((path for path in (folder, *needed) if not path.is_dir()), None)
    if unseen is not None:
        return f"a machine of the cluster does not see {unseen}"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(cores)
    if place.is_dir():
        os.chdir(place)  # paths mean what they mean to who asked
    with (
        (folder / OUTPUT).open("a", encoding="utf-8") as output,
        redirect_stdout(output),
        redirect_stderr(output),
    ):
        try:
            main(*given)
        except Exception:
            traceback.print_exc()  # where the others of this training say what they do
            raise
    return ""


def trainings_at_once(jobs: str) -> int:
    """The number in ``ray:4``; 0 in ``ray``.

    >>> trainings_at_once("ray:4"), trainings_at_once("ray")
    (4, 0)
    """
    return int(jobs.partition(":")[2] or 0)
