# SPDX-License-Identifier: Apache-2.0
"""A client's node of Flower: started for a server, and stopped, with the records of this client alone."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from reticent.core.errors import Unusable
from reticent.core.progress import console
from reticent.core.record import Record, write_records
from reticent.federated.flower import flower_programs, flower_switches
from reticent.federated.flower.certificates import check_server, write_secret
from reticent.federated.flower.child_processes import ChildProcesses
from reticent.federated.flower.node_process import NodePlan

_PROGRAM = "from reticent.federated.flower.launched_programs import client_program; client_program()"
_SECRET, _PROGRAMS = "launcher.secret", "programs"
_LIVED = 60.0
"""Seconds that a node has to run so that it counts as one that the server knew."""
_PAUSE = 2.0
"""Seconds between two looks at the server."""


@dataclass(frozen=True, kw_only=True)
class NodePlace:
    """A client's way to the server.

    Args:
        host: of the server.
        port: of the server.
        authority: whose certificates are believed.
        key: the client's own, private.
        patience: seconds without a server after which the client leaves.
    """

    host: str
    port: int
    authority: Path
    key: Path
    patience: float


def run_node(place: NodePlace, *, base: str, records: Sequence[Record], device: str) -> None:
    """Take part until the server is gone for so long, or this process is stopped; no process or file of it stays.

    Args:
        place: of the server.
        base: folder, hub id or catalogue name, on this machine.
        records: of this client; they are written into a private folder for as long as it takes part.
        device: to train on.

    Raises:
        BadInput: Flower cannot be used; the server's certificate expired, or is for another host.
        Unusable: there is no server, or it does not know the node for as long as the patience.
    """
    flower_switches.ready()
    _wait_for_server(place)
    folder = Path(tempfile.mkdtemp(prefix="reticent-join-"))
    try:
        write_secret(folder / _SECRET, secrets.token_bytes(32))
        write_records(folder / "records.parquet", records)
        plan = NodePlan(base=base, records=str(folder / "records.parquet"), device=device)
        (folder / "node.json").write_text(json.dumps(asdict(plan)), encoding="utf-8")
        flower_programs.write_programs(folder / _PROGRAMS, "flwr-clientapp", _PROGRAM)
        _take_part(place, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _take_part(place: NodePlace, folder: Path) -> None:
    """Run a node, and another in its place whenever it ends while the server answers, until the server is gone.

    A server that was started again does not know the nodes of the one before, and one that is just starting may not
    have been given the keys yet.
    """
    refused_since: float | None = None
    while True:
        begun = time.monotonic()
        with _running_node(place, folder) as children:
            again = _stay(place, children)
        if not again:
            console.print("the server is gone; left", highlight=False)
            return
        if time.monotonic() - begun > _LIVED:
            refused_since = None
        elif refused_since is None:
            refused_since = begun
        elif time.monotonic() - refused_since > place.patience:
            raise Unusable(
                "Flower's node",
                f"ended by itself, again and again for {place.patience:.0f} s",
                "The server may not know this --key: whoever runs it needs its public part.",
            )
        console.print("the server does not know this node (has it the public part of --key?); joining again")


@contextmanager
def _running_node(place: NodePlace, folder: Path) -> Iterator[ChildProcesses]:
    """A node and its launcher until the context is closed; one that ended at once has no launcher."""
    home = folder / "flower"
    shutil.rmtree(home, ignore_errors=True)
    variables = flower_programs.environment(home, folder / _PROGRAMS)
    variables |= {flower_programs.NODE_PLAN: str(folder / "node.json")}
    children = ChildProcesses(environment=variables, log=folder / "log.txt")
    try:
        port, secret = _free_port(), folder / _SECRET
        address = f"{place.host}:{place.port}"
        children.start(flower_programs.supernode(address, place.authority, place.key, port, secret))
        if _opened(port, children):
            children.start(flower_programs.launcher(f"127.0.0.1:{port}", secret, None))
            console.print("joined; Ctrl-C leaves", highlight=False)
        yield children
    finally:
        children.stop()


def _wait_for_server(place: NodePlace) -> None:
    end = time.monotonic() + place.patience
    while not check_server(place.host, place.port, place.authority):
        if time.monotonic() > end:
            raise Unusable(
                f"--superlink {place.host}:{place.port}",
                f"nobody answers there within {place.patience:.0f} s",
                "Check the address; reticent serve-federation has to run there.",
            )
        time.sleep(1.0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _opened(port: int, children: ChildProcesses) -> bool:
    """Wait until somebody listens at a port; False where a process ended before."""
    while children.ended() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return True
        except OSError:
            time.sleep(0.3)
    return False


def _stay(place: NodePlace, children: ChildProcesses) -> bool:
    """Wait until a process ended and the server answers (True), or the server was gone for the patience (False)."""
    gone: float | None = None
    while gone is None or time.monotonic() - gone < place.patience:
        children.look()
        if check_server(place.host, place.port, place.authority):
            if children.ended() is not None:
                return True
            gone = None
        elif gone is None:
            gone = time.monotonic()
        time.sleep(_PAUSE)
    return False
