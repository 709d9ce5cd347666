# SPDX-License-Identifier: Apache-2.0
"""The engine ``ray``: Flower's simulation, with some worker processes on this machine that keep a base each.

The server's loop stays in the main thread. Flower's own server app, which runs in a thread of its, hands out the grid
and waits until the last round is over.
"""

from __future__ import annotations

import os
import queue
import shutil
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput, Unusable
from reticent.federated.client_engine import ClientSide
from reticent.federated.flower import flower_switches
from reticent.federated.flower.child_processes import variables_set
from reticent.federated.flower.client_worker import ClientWorker, resident, worker_for_rows
from reticent.federated.flower.flower_messages import FlowerTransport, client_app
from reticent.federated.flower.windowed_grid import Pace, Reply, SentRound, WindowedGrid
from reticent.federated.local_grid import Grid

_START = 180.0
"""Seconds in which the simulation has to stand."""
_LOOPBACK = "127.0.0.1" if sys.platform == "darwin" else "127.0.0.2"
"""Ray takes 127.0.0.1 for the machine's address in the network, unless on macOS."""
_OBJECTS = 256 * 2**20
"""Bytes of Ray's object store beside twice the rows."""


@contextmanager
def over_ray(side: ClientSide, *, workers: int) -> Iterator[Grid]:
    """The clients, reached through Flower's simulation; with ``workers`` given an `Engine`, see `client_engine`.

    Args:
        side: of the clients.
        workers: processes, each with a base in memory.

    Raises:
        BadInput: Flower or Ray cannot be used; factors are stacked, which changes the base itself in each round.
        Unusable: the simulation does not start, or a worker died; the same call goes on.
    """
    side.spec.refuse_bases_apart("ray")
    flower_switches.ready(ray=True)
    with _cluster(side, workers) as rows, _simulation(side, rows, workers) as transport:
        yield WindowedGrid(transport, Pace(window=2 * workers), side.names, seed=side.spec.seed)


def answer_in_worker(request: SentRound, *, key: str, side: dict[str, Any], rows: Any) -> Reply:
    """Train a client in a worker of Ray; the base is loaded for the first request and stays.

    Args:
        request: from the server.
        key: of this simulation.
        side: ``base`` and ``spec``.
        rows: reference to the encoded rows of all clients in Ray's store.
    """

    def make() -> ClientWorker:
        import ray

        return worker_for_rows(side["base"], side["spec"], ray.get(rows))

    worker, loading = resident(key, make)
    return worker.answer(request, client=request.client, loading=loading)


@contextmanager
def _cluster(side: ClientSide, workers: int) -> Iterator[Any]:
    """Ray on this machine, in a folder of its own that does not stay; a reference to the rows."""
    import ray

    if ray.is_initialized():
        raise BadInput("engine='ray'", "this process uses Ray already", "Call ray.shutdown() before.")
    # Short, as Ray's sockets lie in it and their paths may have some hundred letters.
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    rows = [list(texts) for texts in side.rows]
    try:
        with variables_set({"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}):
            _start(rows, folder, workers, gpus=_gpus(side))
            yield ray.put(rows)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _start(rows: Sequence[Sequence[Any]], folder: Path, workers: int, *, gpus: int) -> None:
    import ray

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(
                num_cpus=workers,
                num_gpus=gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=_OBJECTS + 16 * sum(len(row) for texts in rows for row in texts),
                _temp_dir=str(folder),
                _node_ip_address=_LOOPBACK,
            )
    except Exception as error:  # it has no one kind of error for that
        why = f"Ray does not start ({type(error).__name__}), which a machine with too much other work is enough for"
        raise Unusable("engine='ray'", why, "Try again, or give --engine local.") from error


def _gpus(side: ClientSide) -> int:
    return 1 if next(side.model.parameters()).device.type == "cuda" else 0


@contextmanager
def _simulation(side: ClientSide, rows: Any, workers: int) -> Iterator[FlowerTransport]:
    """Flower's simulation in a thread, until the context is closed."""
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    opened: queue.Queue[Any] = queue.Queue()
    closing, failed = threading.Event(), list[BaseException]()
    server = ServerApp()

    def main(grid: Any, context: Any) -> None:
        opened.put(grid)
        closing.wait()

    server.main()(main)

    about = {"base": side.base, "spec": side.spec}
    app = client_app(partial(answer_in_worker, key=uuid.uuid4().hex, side=about, rows=rows))

    def simulate() -> None:
        try:
            run_simulation(
                server_app=server,
                client_app=app,
                num_supernodes=len(side.names),
                backend_config={"client_resources": {"num_cpus": 1, "num_gpus": _gpus(side) / workers}},
            )
        except BaseException as error:  # noqa: BLE001 - the main thread is told
            failed.append(error)

    thread = threading.Thread(target=simulate, name="flower-simulation", daemon=True)
    thread.start()

    def check() -> None:
        if not thread.is_alive():
            why = type(failed[0]).__name__ if failed else "it ended"
            raise Unusable("engine='ray'", f"Flower's simulation stopped ({why})", "The same command goes on.")

    try:
        grid, nodes = _opened(opened, len(side.names), check)
        yield FlowerTransport(grid, nodes, check=check, fatal=True)
    finally:
        closing.set()
        thread.join(timeout=60)


def _opened(opened: queue.Queue[Any], clients: int, check: Any) -> tuple[Any, Sequence[int]]:
    """The grid once all clients have a node."""
    end, grid = time.monotonic() + _START, None
    while time.monotonic() < end:
        check()
        try:
            grid = grid or opened.get(timeout=0.2)
            nodes = sorted(grid.get_node_ids())
        except queue.Empty:
            continue
        if len(nodes) == clients:
            return grid, nodes
        time.sleep(0.05)
    raise Unusable("engine='ray'", f"Flower's simulation did not start within {_START:.0f} s", "Try again.")
