# SPDX-License-Identifier: Apache-2.0
"""Flower's programs of a deployment: the words that start them, and what runs in place of an app that is sent.

Flower's server hands the code of an app to all nodes, and each runs it. Here none of it is run: where its launcher
looks for the programs that load apps, it finds ours, which run what is installed, and a refusal in place of all others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from reticent.federated.flower.flower_switches import SWITCHES

SERVER_PLAN = "RETICENT_FEDERATION_PLAN"
NODE_PLAN = "RETICENT_NODE_PLAN"
"""Variables with the path of what our programs read."""

OTHERS = ("flwr-agentapp", "flwr-connector", "flwr-model", "flwr-simulation", "flwr-serverapp", "flwr-clientapp")
_REFUSES = "import sys; sys.exit('only its own federation is run here')"


def module(name: str, function: str) -> list[str]:
    """Words that run a program of Flower by this Python; it ends when this process is gone, however that ended."""
    ours = "from reticent.federated.flower.launched_programs import flower_program"
    return [sys.executable, "-c", f"{ours}; flower_program({name!r}, {function!r}, {os.getpid()})"]


def superlink(host: str, port: int, files: Mapping[str, Path], secret: Path) -> list[str]:
    """Words that start Flower's server.

    Args:
        host: that it listens on.
        port: for all that it does.
        files: ``certificate``, ``key`` and ``authority``.
        secret: file with what launchers have to know.
    """
    return [
        *module("flwr.superlink.cli.flower_superlink", "flower_superlink"),
        *("--host", host, "--port", str(port)),
        *("--ssl-certfile", str(files["certificate"]), "--ssl-keyfile", str(files["key"])),
        *("--ssl-ca-certfile", str(files["authority"])),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
        "--enable-supernode-auth",
    ]


def supernode(superlink_address: str, authority: Path, key: Path, port: int, secret: Path) -> list[str]:
    """Words that start a node of Flower.

    Args:
        superlink_address: host and port of the server.
        authority: whose certificates are believed.
        key: private, of this client.
        port: on this machine's loopback, for its own launcher alone.
        secret: file with what that has to know.
    """
    return [
        *module("flwr.supernode.cli.flower_supernode", "flower_supernode"),
        *("--superlink", superlink_address, "--root-certificates", str(authority)),
        *("--auth-supernode-private-key", str(key)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
    ]


def launcher(address: str, secret: Path, authority: Path | None) -> list[str]:
    """Words that start Flower's launcher of apps.

    Args:
        address: of whom it works for.
        secret: file with what it has to know.
        authority: of that one's certificate; None on the loopback of a node, which has none.
    """
    tls = ["--insecure"] if authority is None else ["--root-certificates", str(authority)]
    return [
        *module("flwr.supercore.cli.flower_superexec", "flower_superexec"),
        *("--runtime-api-address", address, *tls, "--superexec-auth-secret-file", str(secret)),
    ]


def write_programs(folder: Path, ours: str, code: str) -> Path:
    """A folder of programs in which a launcher finds ours, and a refusal for each other.

    Args:
        folder: that is made.
        ours: name of the program that is ours.
        code: Python that it runs.
    """
    folder.mkdir()
    for name in OTHERS:
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{code if name == ours else _REFUSES}\n", encoding="utf-8")
        path.chmod(0o700)
    return folder


def environment(home: Path, programs: Path) -> dict[str, str]:
    """Variables of all processes of a deployment: switches, a home that does not stay, and no programs but ours.

    Args:
        home: what Flower keeps of itself.
        programs: see `write_programs`.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLWR_", "RAY_"))}
    paths = os.pathsep.join(path for path in sys.path if path)
    return (
        inherited
        | SWITCHES
        | {"FLWR_LOG_LEVEL": "WARNING", "FLWR_HOME": str(home), "PYTHONPATH": paths}
        | {
            "PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
        }
    )
