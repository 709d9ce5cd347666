# SPDX-License-Identifier: Apache-2.0
"""A client's node of Flower: started for a server, and stopped, with the records of this client alone."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
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
        Unusable: there is no server, or the node ended by itself.
    """
    flower_switches.ready()
    _wait_for_server(place)
    folder = Path(tempfile.mkdtemp(prefix="reticent-join-"))
    children: ChildProcesses | None = None
    try:
        secret = folder / "launcher.secret"
        write_secret(secret, secrets.token_bytes(32))
        write_records(folder / "records.parquet", records)
        plan = NodePlan(base=base, records=str(folder / "records.parquet"), device=device)
        (folder / "node.json").write_text(json.dumps(asdict(plan)), encoding="utf-8")
        programs = flower_programs.write_programs(folder / "programs", "flwr-clientapp", _PROGRAM)
        variables = flower_programs.environment(folder / "flower", programs)
        variables |= {flower_programs.NODE_PLAN: str(folder / "node.json")}
        children = ChildProcesses(environment=variables, log=folder / "log.txt")
        port = _free_port()
        address = f"{place.host}:{place.port}"
        children.start(flower_programs.supernode(address, place.authority, place.key, port, secret))
        _wait_for_port(port, children)
        children.start(flower_programs.launcher(f"127.0.0.1:{port}", secret, None))
        console.print("joined; Ctrl-C leaves", highlight=False)
        _stay(place, children)
    finally:
        if children is not None:
            children.stop()
        shutil.rmtree(folder, ignore_errors=True)


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


def _wait_for_port(port: int, children: ChildProcesses) -> None:
    while True:
        _refuse_ended(children)
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
        except OSError:
            time.sleep(0.3)


def _refuse_ended(children: ChildProcesses) -> None:
    if (ended := children.ended()) is not None:
        raise Unusable(
            "Flower's node",
            f"ended by itself (exit code {ended.returncode})",
            "The server may not know this --key: whoever runs it needs its public part.",
        )


def _stay(place: NodePlace, children: ChildProcesses) -> None:
    """Until the server was gone for as long as the patience is."""
    gone: float | None = None
    while gone is None or time.monotonic() - gone < place.patience:
        children.look()
        if check_server(place.host, place.port, place.authority):
            _refuse_ended(children)
            gone = None
        elif gone is None:
            gone = time.monotonic()
        time.sleep(2.0)
    console.print("the server is gone; left", highlight=False)
