# SPDX-License-Identifier: Apache-2.0
"""A secure round in one process, over bytes as over a wire, in which clients fall silent where they are told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.federated.secure.ciphers import Ciphers
from reticent.federated.secure.messages import Message, Partners, from_bytes, to_bytes
from reticent.federated.secure.secure_client import SecureClient
from reticent.federated.secure.secure_plan import SecurePlan
from reticent.federated.secure.secure_server import OpenedSum, SecureServer

PARTS = ("keys", "pieces", "check", "vector", "reveal")
"""Parts of a round, in order; in each, every client answers once. Whoever is to show pieces does so before "vector"."""

Step = Callable[..., tuple[SecureClient, Any]]


def small_plan(**changes: Any) -> SecurePlan:
    """A plan for five clients, of whom four must stay."""
    settings: dict[str, Any] = {
        "session": bytes(range(16)),
        "dimension": 40,
        "clients": 5,
        "threshold": 4,
        "bits": 16,
    }
    return SecurePlan(**(settings | changes))


class SecureRound:
    """Clients and a server with secrets that follow from their numbers.

    Args:
        plan: of the session.
        ciphers: see `Ciphers`.
        salt: other secrets for the same numbers.
    """

    def __init__(self, plan: SecurePlan, ciphers: Ciphers, *, salt: int = 0) -> None:
        self.plan = plan
        self.server = SecureServer(plan, ciphers, key=bytes(range(100, 132)))
        self.clients = {
            number: SecureClient(plan=plan, number=number, ciphers=ciphers, secret=bytes([number + 1, salt] * 16))
            for number in range(plan.clients)
        }

    def tell(self, number: int, step: Step, *given: Any) -> Any:
        """Let a client take a step and the server have its message; gives the message."""
        self.clients[number], message = step(*given)
        self.server.receive(over_the_wire(message), sender=number)
        return message

    def until(
        self,
        part: str,
        values: Mapping[int, npt.NDArray[np.int64]] | None = None,
        silent: Mapping[int, str] | None = None,
    ) -> Any:
        """Run up to the server's messages that begin ``part`` (of "keys" there are none, at "end" it is the sum).

        Args:
            part: one of `PARTS`, or "end".
            values: client → signed vector; zeros where there are none.
            silent: client → the first part that it does not answer in.
        """
        stop = len(PARTS) if part == "end" else PARTS.index(part)
        begins: list[Callable[[], Any]] = [
            dict,
            self.server.neighbourhoods,
            self.server.deliveries,
            self._partners,
            self.server.survivors,
        ]
        for number in range(stop):
            told = begins[number]()
            for client in sorted(self.clients):
                if number < PARTS.index((silent or {}).get(client, "reveal")) or client not in (silent or {}):
                    self._answer(number, client, told, values or {})
        return self.server.opened() if part == "end" else begins[stop]()

    def _partners(self) -> dict[int, Partners]:
        """End the quarrels over envelopes, in which all who are asked show what was in theirs."""
        for client, accusation in self.server.accusations().items():
            self.tell(client, self.clients[client].show, over_the_wire(accusation))
        return self.server.partners()

    def _answer(self, part: int, client: int, told: Mapping[int, Message], values: Mapping[int, Any]) -> None:
        state = self.clients[client]
        if part == 0:
            self.tell(client, state.advertise)
            return
        message = over_the_wire(told[client])
        if part == 3:
            vector = values.get(client, np.zeros(self.plan.dimension, dtype=np.int64))
            self.tell(client, state.mask, message, (vector & self.plan.mask).astype(np.uint32))
        else:
            steps: dict[int, Step] = {1: state.share, 2: state.check, 4: state.unmask}
            self.tell(client, steps[part], message)


def over_the_wire(message: Message) -> Any:
    """The message, after it was bytes."""
    return from_bytes(to_bytes(message))


def opened_sum(
    plan: SecurePlan,
    ciphers: Ciphers,
    values: Mapping[int, npt.NDArray[np.int64]],
    silent: Mapping[int, str] | None = None,
) -> OpenedSum:
    """The sum that a round opens; ``silent`` as in `SecureRound.until`."""
    total: OpenedSum = SecureRound(plan, ciphers).until("end", values, silent)
    return total
