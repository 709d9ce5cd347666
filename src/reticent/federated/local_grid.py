# SPDX-License-Identifier: Apache-2.0
"""All clients in one process: the base stays in memory, the trained arrays are swapped, updates come one by one.

It hides nothing from the machine that it runs on. It is how a federation is simulated, and how its costs are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reticent.federated.client_training import LocalTraining, client_seed, train_locally
from reticent.federated.exchange.arrays import put_into
from reticent.federated.update import Update
from reticent.models.encode import EncodedRecord


@dataclass(frozen=True, kw_only=True, eq=False)
class Message:
    """An answer of a client, or what pretends to be one.

    Args:
        client: number of the client that it says it is from.
        round: that it says it is for, from 1.
        update: as it was sent; nothing of it was checked.
        refused: why it could not be read, where it came as bytes that hold no such arrays.
    """

    client: int
    round: int
    update: Update
    refused: str = ""


class Grid(Protocol):
    """Reaches clients."""

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        """Send the global arrays to clients, and yield what comes back, one message at a time.

        Args:
            round_: number of the round, from 1.
            clients: numbers of those that were drawn.
            arrays: the global arrays.
        """
        ...


class LocalGrid:
    """Clients in this process, one after the other, in the order in which they were drawn.

    Args:
        model: the base with the tuning method on it.
        names: of the clients.
        rows: of each client, encoded.
        how: they train.
        seed: of all their training.
    """

    def __init__(
        self,
        model: Any,
        names: Sequence[str],
        rows: Sequence[Sequence[EncodedRecord]],
        how: LocalTraining,
        *,
        seed: int,
    ) -> None:
        self.model, self.names, self.rows, self.how, self.seed = model, names, rows, how, seed

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        """See `Grid.ask`. One update is held at a time."""
        for client in clients:
            put_into(self.model, arrays)
            seed = client_seed(self.seed, round_, self.names[client])
            yield Message(
                client=client,
                round=round_,
                update=train_locally(self.model, self.rows[client], self.how, seed=seed),
            )
