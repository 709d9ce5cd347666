# SPDX-License-Identifier: Apache-2.0
"""Flower's programs as this package starts them, and the two that replace those which would load an app that was sent.

Flower waits half a minute for the first sign of life of a program, and then starts it again beside the first. A machine
with other work is slower than that, and ever slower with each: so it waits for longer here, and whatever takes long to
import, as torch does, is imported after Flower's own part has begun to send signs.
"""

from __future__ import annotations

import os
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from reticent.federated.flower import flower_switches
from reticent.federated.flower.flower_programs import NODE_PLAN, SERVER_PLAN

_SIGN = 240
"""Seconds in which a program has to give a sign of life."""
_LOOK = 0.5
"""Seconds between two looks at who started this process."""
_LEAVE = 20
"""Seconds that a program of Flower's own has to put its things away."""
_WAITING = ("flwr.supercore.corestate.in_memory_corestate", "flwr.supercore.corestate.sql_corestate")


def flower_program(module: str, function: str, parent: int) -> None:
    """A program of Flower's own, which ends when the process that it was started for is gone.

    Args:
        module, function: of the program.
        parent: id of that process.
    """
    flower_switches.ready()
    from flwr.supercore.app_utils import start_parent_process_monitor

    start_parent_process_monitor(parent)
    _end_with(parent, leave=_LEAVE)  # that monitor asks once, and whoever tries a server again and again goes on
    for name in _WAITING:
        vars(import_module(name)).update(HEARTBEAT_DEFAULT_INTERVAL=_SIGN, HEARTBEAT_PATIENCE=1)
    getattr(import_module(module), function)()


def _end_with(launcher: int, leave: float = 0) -> None:
    """End when the process that started this one is gone: it would wait for a server that is gone for ever.

    Not by Flower's own monitor alone, which asks this process to end, as its waiting for a server does not.

    Args:
        launcher: id of that process.
        leave: seconds until then.
    """

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(_LOOK)
        time.sleep(leave)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def server_program(module: str, function: str) -> None:
    """Flower's ``flwr-serverapp``, with a function of ours in place of the app that it was given.

    Args:
        module, function: it takes the path of the plan and Flower's grid.
    """
    _end_with(os.getppid())
    flower_switches.ready()
    from flwr.superlink.cli.flwr_serverapp import flwr_serverapp

    plan = Path(os.environ[SERVER_PLAN])

    def run(*, grid: Any, context: Any, **_sent: Any) -> Any:
        getattr(import_module(module), function)(plan, grid)
        return context

    # By name, as functions of the same name stand in the packages.
    vars(import_module("flwr.superlink.runtime.run_serverapp"))["run_"] = run
    flwr_serverapp()


def client_program() -> None:
    """Flower's ``flwr-clientapp``, with our app in place of the one that was sent."""
    _end_with(os.getppid())
    flower_switches.ready()
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp

    plan = Path(os.environ[NODE_PLAN])

    def load(*_sent: Any) -> Any:
        return import_module("reticent.federated.flower.node_process").app_of(plan)

    vars(import_module("flwr.supernode.runtime.run_clientapp"))["get_load_client_app_fn"] = lambda **_: load
    flwr_clientapp()
