# SPDX-License-Identifier: Apache-2.0
"""The program that Flower's launcher starts on a client's machine for each message: it trains on this client's records.

It runs what is installed here, and nothing of the app that the server sent along.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from reticent.core.record import read_records
from reticent.federated.flower import flower_switches
from reticent.federated.flower.client_worker import ClientWorker, resident, setting_from, worker_for_records
from reticent.federated.flower.flower_messages import client_app
from reticent.federated.flower.flower_programs import NODE_PLAN
from reticent.federated.flower.windowed_grid import Reply, SentRound


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """A client's side of a deployment, which no message changes.

    Args:
        base: folder, hub id or catalogue name, on this machine.
        records: file with the client's records.
        device: it trains on.
    """

    base: str
    records: str
    device: str

    def answer(self, request: SentRound) -> Reply:
        """Train on the client's records.

        Args:
            request: from the server. Neither a client's number nor a place of texts is read from it.

        Raises:
            BadInput: settings that cannot be read, or another base.
        """
        spec, fingerprint = setting_from(request.setting, device=self.device)

        def make() -> ClientWorker:
            return worker_for_records(self.base, spec, read_records(self.records), fingerprint=fingerprint)

        worker, loading = resident(request.setting, make)
        return worker.answer(request, client=0, loading=loading)


def main() -> None:
    """Flower's ``flwr-clientapp`` with our app in place of the one that was sent."""
    flower_switches.ready()
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp

    runtime = import_module("flwr.supernode.runtime.run_clientapp")  # a function of its package has its name
    plan = NodePlan(**json.loads(Path(os.environ[NODE_PLAN]).read_text(encoding="utf-8")))
    app = client_app(plan.answer)
    runtime.get_load_client_app_fn = lambda **_: lambda *_sent: app  # type: ignore[attr-defined]
    flwr_clientapp()
