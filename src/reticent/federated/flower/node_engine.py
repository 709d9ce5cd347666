# SPDX-License-Identifier: Apache-2.0
"""The engine of a deployment: each client is a node on its own machine, known by its key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from reticent.core.errors import Unusable
from reticent.core.progress import console
from reticent.federated.client_engine import ClientSide
from reticent.federated.flower.client_worker import setting_of
from reticent.federated.flower.flower_messages import FlowerTransport
from reticent.federated.flower.windowed_grid import Pace, WindowedGrid
from reticent.federated.local_grid import Grid
from reticent.models.locate import locate
from reticent.models.weights import fingerprint_weights

_AT_ONCE = 16
"""Clients that are asked at once: so many updates may wait for their turn in memory."""


@dataclass(kw_only=True)
class NodeClocks:
    """Seconds of each message, as the clients say.

    Args:
        loading: of loading the base.
        training: of the steps on their texts.
    """

    loading: list[float] = field(default_factory=list)
    training: list[float] = field(default_factory=list)

    @property
    def loading_share(self) -> float | None:
        """The share of loading in what clients do for a message; None where none answered.

        >>> NodeClocks(loading=[3.0], training=[1.0]).loading_share
        0.75
        """
        total = sum(self.loading) + sum(self.training)
        return sum(self.loading) / total if total > 0 else None


@contextmanager
def over_nodes(
    side: ClientSide,
    *,
    grid: Any,
    nodes: Mapping[str, int],
    patience: float,
    timeout: float,
    clocks: NodeClocks,
) -> Iterator[Grid]:
    """The clients of a deployment; a `reticent.federated.client_engine.Engine` with the rest given.

    Args:
        side: of the clients; no rows.
        grid: of Flower's server.
        nodes: id of each client's node, by the client's name; which key it has to show was settled when it was given.
        patience: seconds in which all have to join.
        timeout: seconds after which a client counts as one that does not answer.
        clocks: is filled at the end.

    Raises:
        BadInput: factors are stacked.
        Unusable: not all joined in time; the same call waits again.
    """
    side.spec.refuse_bases_apart("deployment")
    _wait_for(lambda: set(grid.get_node_ids()), nodes, patience)
    setting = setting_of(side.spec, fingerprint_weights(locate(side.base)))
    numbers = [nodes[name] for name in side.names]
    transport = FlowerTransport(grid, numbers, setting=setting, seconds=timeout)
    pace = Pace(window=_AT_ONCE, timeout=timeout, pause=0.5)
    reached = WindowedGrid(transport, pace, side.names, seed=side.spec.seed)
    try:
        yield reached
    finally:
        clocks.loading, clocks.training = reached.loading, reached.training


def _wait_for(present: Callable[[], set[int]], nodes: Mapping[str, int], patience: float) -> None:
    end, said = time.monotonic() + patience, -1
    while True:
        joined = present()
        missing = [name for name, node in nodes.items() if node not in joined]
        if not missing:
            return
        if len(missing) != said:
            said = len(missing)
            console.print(f"waiting for {said} of {len(nodes)} clients to join", highlight=False)
        if time.monotonic() > end:
            raise Unusable(
                f"{len(missing)} of {len(nodes)} clients",
                f"have not joined within {patience:.0f} s",
                "Start reticent join-federation on their machines; the same command waits again (--patience).",
            )
        time.sleep(1.0)
