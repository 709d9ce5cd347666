# SPDX-License-Identifier: Apache-2.0
"""The trainings of a comparison on a Ray cluster: each is a task, alone in its process, that writes its own folder.

All machines of the cluster have to see the folder of the comparison and the base at the same paths. A process that dies
is started again twice, and goes on from its last checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

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
    """

    cluster: RayCluster
    at_once: int
    cores: int
    on_gpu: bool

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
        try:
            outcome: str = ray.get(task.remote(Path.cwd(), folder.absolute(), tuple(given), self.cores))
        except ray.exceptions.RayError as error:
            return f"a worker of Ray ended ({type(error).__name__}); see {OUTPUT} in its folder"
        return outcome


@contextmanager
def ray_trainings(count: int, device: str) -> Iterator[RayTrainings]:
    """Yield a cluster for trainings.

    Args:
        count: trainings at the same time; 0 for one on each GPU, or on every four cores.
        device: of the trainings.

    Raises:
        BadInput: Ray is not installed, or no cluster can be had.
    """
    with ray_cluster(f"--jobs {RAY}", cores=0, instead="--jobs 2") as cluster:
        on_gpu = device != "cpu" and cluster.ray.cluster_resources().get("GPU", 0) >= 1
        room = cluster.room(on_gpu=False)
        at_once = count or (cluster.room(on_gpu=True) if on_gpu else max(1, room // CORES))
        nodes = [int(node["Resources"].get("CPU", 0)) for node in cluster.ray.nodes() if node["Alive"]]
        cores = max(1, min(room // at_once, max(nodes)))
        yield RayTrainings(cluster=cluster, at_once=at_once, cores=cores, on_gpu=on_gpu)


def _train(place: Path, folder: Path, given: tuple[str, ...], cores: int) -> str:
    """In a worker of Ray."""
    if not folder.is_dir():
        return f"a machine of the cluster does not see {folder}"
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
        main(*given)
    return ""


def trainings_at_once(jobs: str) -> int:
    """The number in ``ray:4``; 0 in ``ray``.

    >>> trainings_at_once("ray:4"), trainings_at_once("ray")
    (4, 0)
    """
    return int(jobs.partition(":")[2] or 0)
