# SPDX-License-Identifier: Apache-2.0
"""Flower's server of a deployment: started, given the clients' keys, told to run the federation, and stopped."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import Unusable
from reticent.federated.flower import flower_programs, flower_switches
from reticent.federated.flower.certificates import ServerCertificate, check_server, write_secret
from reticent.federated.flower.child_processes import ChildProcesses, variables_set

_START = 120.0
"""Seconds in which Flower's server has to answer."""
_RELEASE = 20.0
"""Seconds in which the port has to be free."""
_PLAN = "plan.json"
_APP = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "reticent-federation"
version = "1.0.0"
description = "Nothing of it is run: servers and clients run the reticent that they have installed."
license = { file = "LICENSE" }
dependencies = ["flwr>=1.42.0,<1.43.0"]

[tool.flwr.app]
publisher = "reticent"
fab-format-version = 1
flwr-version-target = "1.42.0"

[tool.flwr.app.components]
serverapp = "federation:server"
clientapp = "federation:client"

[tool.flwr.app.config]
"""


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """Host, port and files of Flower's server.

    Args:
        host: name or address that clients call it by, and that the certificate is for.
        port: for all that it does.
        bind: address that it listens on.
        files: certificate, key and authority.
    """

    host: str
    port: int
    bind: str
    files: ServerCertificate


class FlowerServer:
    """A running server of Flower; see `flower_server`.

    Args:
        address: of it.
        children: its processes.
        folder: of all that it keeps.
    """

    def __init__(self, address: ServerAddress, children: ChildProcesses, folder: Path) -> None:
        self.address, self.children, self.folder = address, children, folder

    @property
    def plan(self) -> Path:
        """The file that our program reads; it may be written until `run`."""
        return self.folder / _PLAN

    def register(self, keys: Mapping[str, bytes]) -> dict[str, int]:
        """Let clients in by their public keys; the id of each one's node, by the client's name."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        with self._control() as control:
            return {
                name: int(control.RegisterNode(RegisterNodeRequest(public_key=key)).node_id)
                for name, key in keys.items()
            }

    def run(self, failure: Callable[[], Exception | None]) -> None:
        """Have the federation run, and wait for its end.

        Args:
            failure: what our program says of its failure, if it did.

        Raises:
            Unusable: Flower ended, or the run failed without a word.
        """
        from flwr.common.serde import fab_to_proto
        from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest
        from flwr.supercore.fab import Fab

        packed = _packed_app(self.folder / "app")
        fab = Fab(hashlib.sha256(packed).hexdigest(), packed, {})
        with self._control() as control:
            number = control.StartRun(StartRunRequest(fab=fab_to_proto(fab))).run_id
            while True:
                self.children.look()
                if self.children.ended() is not None:
                    raise Unusable("Flower's server", "ended before the federation did", "The same command goes on.")
                status = control.ListRuns(ListRunsRequest(run_id=number)).run_dict[number].status
                if status.status == "finished":
                    break
                time.sleep(1.0)
        if (error := failure()) is not None:
            raise error
        if status.sub_status != "completed":
            raise Unusable("the federation", f"did not end well ({status.sub_status})", "The same command goes on.")

    @contextmanager
    def _control(self) -> Iterator[Any]:
        from flwr.cli.typing import SuperLinkConnection
        from flwr.cli.utils import init_http_client_from_connection

        authority = str(self.address.files.authority.resolve())
        connection = SuperLinkConnection(
            "reticent", address=f"{self.address.host}:{self.address.port}", root_certificates=authority
        )
        client = init_http_client_from_connection(connection)
        try:
            yield client
        finally:
            client.close()


@contextmanager
def flower_server(address: ServerAddress, *, code: str) -> Iterator[FlowerServer]:
    """Flower's server until the context is closed; no process, port or file of it stays.

    Args:
        address: host, port, certificate.
        code: Python of our program that runs the federation; `FlowerServer.plan` is what it reads.

    Raises:
        BadInput: Flower cannot be used.
        Unusable: it does not start.
    """
    flower_switches.ready()
    _wait_for_a_free_port(address)
    folder = Path(tempfile.mkdtemp(prefix="reticent-serve-"))
    children: ChildProcesses | None = None
    try:
        secret = folder / "launcher.secret"
        write_secret(secret, secrets.token_bytes(32))
        programs = flower_programs.write_programs(folder / "programs", "flwr-serverapp", code)
        variables = flower_programs.environment(folder / "flower", programs)
        variables |= {flower_programs.SERVER_PLAN: str(folder / _PLAN)}
        children = ChildProcesses(environment=variables, log=folder / "log.txt")
        files = asdict(address.files)
        children.start(flower_programs.superlink(address.bind, address.port, files, secret))
        _wait_until_it_answers(address, children)
        called = f"{address.host}:{address.port}"
        children.start(flower_programs.launcher(called, secret, address.files.authority))
        with _own_home(folder):
            yield FlowerServer(address, children, folder)
    finally:
        if children is not None:
            children.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _own_home(folder: Path) -> Iterator[None]:
    """Flower's own notes of this process go to a folder that does not stay."""
    with variables_set({"FLWR_HOME": str(folder / "flower-client")}):
        yield


def _wait_for_a_free_port(address: ServerAddress) -> None:
    """Wait a little: the server of a command that was ended by force takes a few seconds to follow it."""
    end = time.monotonic() + _RELEASE
    while True:
        try:
            family, *_, name = socket.getaddrinfo(address.bind, address.port, type=socket.SOCK_STREAM)[0]
            with socket.create_server(name[:2], family=family):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise Unusable(
                    f"{address.bind}:{address.port}",
                    f"cannot be listened on ({error.strerror})",
                    "Another program may have the port, or it is no address of this machine: give another --address.",
                ) from error
        time.sleep(0.5)


def _wait_until_it_answers(address: ServerAddress, children: ChildProcesses) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end:
        if (ended := children.ended()) is not None:
            raise Unusable(
                f"Flower's server at {address.bind}:{address.port}",
                f"does not start (exit code {ended.returncode})",
                "The port may be taken: give another --address.",
            )
        if check_server(address.host, address.port, address.files.authority):
            return
        time.sleep(0.5)
    raise Unusable("Flower's server", f"does not answer within {_START:.0f} s", "Try again.")


def _packed_app(folder: Path) -> bytes:
    """Flower's bundle of an app; it wants one, and none of it is run."""
    from flwr.cli.build import build_fab_from_disk

    folder.mkdir()
    (folder / "pyproject.toml").write_text(_APP, encoding="utf-8")
    (folder / "LICENSE").write_text("Apache-2.0\n", encoding="utf-8")
    (folder / "README.md").write_text("An empty app.\n", encoding="utf-8")
    (folder / "federation.py").write_text("server = client = None\n", encoding="utf-8")
    return bytes(build_fab_from_disk(folder))
