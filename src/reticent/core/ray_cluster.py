# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster for the length of a command: the one that ``RAY_ADDRESS`` names, else one on this machine.

Ray is an extra and is imported when it is asked for. A cluster that is started here sends no usage statistics, shows no
dashboard, and is ended with all of its processes.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from reticent.core.errors import BadInput

STORE = 256 * 2**20
"""Bytes for what is on its way between processes of a cluster that is started here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RayCluster:
    """A cluster that runs.

    Args:
        ray: the package.
        started: whether the cluster was started here.
    """

    ray: Any
    started: bool

    def room(self, *, on_gpu: bool) -> int:
        """GPUs of the cluster, or cores."""
        return int(self.ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1))


@contextmanager
def ray_cluster(flag: str, *, cores: int, instead: str) -> Iterator[RayCluster]:
    """Yield a cluster.

    Args:
        flag: that asked for it, for messages: ``--workers ray``.
        cores: of a cluster that is started here; 0 for all of this machine.
        instead: the flag for a machine without Ray: ``--workers 2``.

    Raises:
        BadInput: Ray is not installed, or no cluster can be had.
    """
    ray = _ray(flag, instead)
    ours, place = not ray.is_initialized(), ""
    try:
        if ours:
            place = _begin(ray, flag, cores, instead)
        yield RayCluster(ray=ray, started=bool(place))
    finally:
        if ours:
            ray.shutdown()
        if place:
            shutil.rmtree(place, ignore_errors=True)


def _begin(ray: Any, flag: str, cores: int, instead: str) -> str:
    """Find a cluster, or start one; the folder of one that was started, else nothing."""
    address = os.environ.get("RAY_ADDRESS", "")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    place = "" if address else tempfile.mkdtemp(prefix="rr-")  # short: sockets lie in it
    if not address:
        settings |= {"num_cpus": cores or os.cpu_count() or 1, "include_dashboard": False, "_temp_dir": place}
        settings |= {"object_store_memory": STORE}
    try:
        ray.init(address=address or "local", **settings)
    except Exception as error:  # Ray raises errors of many kinds where a cluster cannot be had
        with suppress(Exception):
            ray.shutdown()
        if place:
            shutil.rmtree(place, ignore_errors=True)
        message = (str(error).splitlines() or [""])[0][:200]
        raise BadInput(
            f"RAY_ADDRESS={address}" if address else flag,
            f"no Ray cluster can be had ({type(error).__name__}: {message})",
            f"Start one (ray start --head), or use {instead}.",
        ) from error
    return place


def _ray(flag: str, instead: str) -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_task_oom_retries", "2")  # without end by default: it would run out of memory for ever
    try:
        import ray
    except ImportError as error:
        raise BadInput(
            flag, "needs Ray, which is not installed", f"pip install 'reticent[ray]', or use {instead}."
        ) from error
    return ray
