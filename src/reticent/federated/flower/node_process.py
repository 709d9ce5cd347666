# SPDX-License-Identifier: Apache-2.0
"""A client's machine in a deployment: for each message it trains on this client's records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core.record import read_records
from reticent.federated.flower.client_worker import ClientWorker, resident, setting_from, worker_for_records
from reticent.federated.flower.flower_messages import client_app
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


def app_of(plan: Path) -> Any:
    """The app of this client.

    Args:
        plan: file with a `NodePlan`.
    """
    return client_app(NodePlan(**json.loads(plan.read_text(encoding="utf-8"))).answer)
