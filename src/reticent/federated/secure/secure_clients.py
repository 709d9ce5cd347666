# SPDX-License-Identifier: Apache-2.0
"""The clients of secure rounds, simulated in this process: they train, and what leaves them is bytes of the protocol.

The server's side is `secure_collector`. Nothing but the replies passes from here to there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.federated.local_grid import Grid, Message
from reticent.federated.secure.ciphers import Ciphers, RefusedMessage
from reticent.federated.secure.client_memory import SHOWN, SURVIVORS, VECTOR, ClientMemory
from reticent.federated.secure.keyed_hash import Vector, keyed_hash
from reticent.federated.secure.messages import (
    Accusation,
    Complaints,
    DeliveredPieces,
    Neighbourhood,
    Partners,
    SealedPieces,
    ShownPieces,
    Survivors,
    from_bytes,
    to_bytes,
)
from reticent.federated.secure.secure_client import SecureClient
from reticent.federated.secure.secure_mechanism import SecureMechanism
from reticent.federated.secure.secure_plan import SecurePlan
from reticent.federated.secure.secure_update import client_vector
from reticent.federated.update import RefusedUpdate, Update, check_update, zeros_like


@dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
    """Bytes from a client, or from what pretends to be one.

    Args:
        client: number of the client that the transport knows it to be from.
        data: a message of the protocol; nothing of it was checked.
    """

    client: int
    data: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundOrder:
    """The server's first word in a round.

    Args:
        round: its number, from 1.
        plan: of the session.
        asked: numbers of the clients that take part.
        arrays: the global arrays.
    """

    round: int
    plan: SecurePlan
    asked: tuple[int, ...]
    arrays: Update


class SecureClients(Protocol):
    """Reaches the clients of secure rounds."""

    def begin(self, order: RoundOrder) -> Iterator[Reply]:
        """Begin a round; each client answers with its public keys."""
        ...

    def answer(self, messages: Mapping[int, bytes]) -> Iterator[Reply]:
        """Give each client a message of the server's, and yield what comes back."""
        ...


class ClientSight(Protocol):
    """Looks at what clients do before they send it, where all are simulated on one machine."""

    def masked(self, round_: int, client: int, update: Update, vector: Vector) -> None:
        """A client's update, as it was trained, and its vector before masks."""
        ...


class SimulatedClients:
    """All clients in this process, one after the other; each with secrets of its own.

    Args:
        grid: trains them.
        mechanism: of the federation, as clients know it: the promise that they add their noise for.
        names: of the clients.
        ciphers: see `Ciphers`.
        memory: of what they sent.
        name_of: a name for a client, by its number, that tells nothing of it.
        sight: for the self-check.
    """

    def __init__(
        self,
        grid: Grid,
        mechanism: SecureMechanism,
        names: Sequence[str],
        *,
        ciphers: Ciphers,
        memory: ClientMemory,
        name_of: Callable[[int], str],
        sight: ClientSight,
    ) -> None:
        self.grid, self.mechanism, self.names, self.ciphers = grid, mechanism, names, ciphers
        self.memory, self.name_of, self.sight = memory, name_of, sight
        self._order: RoundOrder | None = None
        self._clients: dict[int, SecureClient] = {}

    def begin(self, order: RoundOrder) -> Iterator[Reply]:
        """See `SecureClients.begin`. A client takes no part in a plan that its promise was not counted for, such as one
        that opens sums of fewer clients or gives it fewer neighbours, nor in more rounds than are counted."""
        self._order, self._clients = order, {}
        most = self.mechanism.appearances(self.mechanism.rounds)
        if order.plan != replace(self.mechanism.plan(0), session=order.plan.session):
            return
        for number in order.asked:
            if self.memory.others(self.name_of(number), order.round) >= most:
                continue
            client = SecureClient(
                plan=order.plan,
                number=number,
                ciphers=self.ciphers,
                secret=keyed_hash(self._key(number), "session", order.plan.session),
            )
            self._clients[number], keys = client.advertise()
            yield Reply(client=number, data=to_bytes(keys))

    def answer(self, messages: Mapping[int, bytes]) -> Iterator[Reply]:
        """See `SecureClients.answer`. A client that a message makes no sense to falls silent."""
        read = {number: from_bytes(data) for number, data in messages.items() if number in self._clients}
        partners = {number: message for number, message in read.items() if isinstance(message, Partners)}
        if partners:
            yield from self._vectors(partners)
            return
        for number, message in read.items():
            try:
                reply = self._reply(number, message)
            except RefusedMessage:
                del self._clients[number]
                continue
            if reply is not None:
                yield reply

    def _reply(self, number: int, message: Any) -> Reply | None:
        """A client's answer to a message that it needs no training for; None where there is none to such."""
        client = self._clients[number]
        sent: SealedPieces | Complaints | ShownPieces | None = None
        if isinstance(message, Neighbourhood):
            self._clients[number], sent = client.share(message)
        elif isinstance(message, DeliveredPieces):
            self._clients[number], sent = client.check(message)
        elif isinstance(message, Accusation):
            self._clients[number], sent = self._shown(number, message)
        elif isinstance(message, Survivors):
            return self._revealed(number, message)
        return None if sent is None else Reply(client=number, data=to_bytes(sent))

    def _shown(self, number: int, message: Accusation) -> tuple[SecureClient, ShownPieces]:
        """Pieces that a client shows in the open; in a round that is run again for the same neighbours, or for none."""
        assert self._order is not None, "begin comes first"
        after, sent = self._clients[number].show(message)
        try:
            self.memory.keep(
                self.name_of(number), self._order.round, self._order.plan.session, SHOWN, to_bytes(message)
            )
        except BadInput as error:
            raise RefusedMessage("more pieces than can be spared") from error
        return after, sent

    def _vectors(self, partners: Mapping[int, Partners]) -> Iterator[Reply]:
        """Train, and send masked vectors. Of what the grid gives, a client's first message counts."""
        assert self._order is not None, "begin comes first"
        waiting = set(partners)
        for message in self.grid.ask(self._order.round, sorted(partners), self._order.arrays):
            if message.client in waiting and message.round == self._order.round:
                waiting.discard(message.client)
                reply = self._vector(message, partners[message.client])
                if reply is not None:
                    yield reply
            del message  # else it would be held while the next update is made

    def _vector(self, message: Message, partners: Partners) -> Reply | None:
        """One client's masked vector; None where it was sent what it does not take."""
        assert self._order is not None, "begin comes first"
        number, order = message.client, self._order
        update = self._sound(message)
        vector = self._noised(number, update)
        self.sight.masked(order.round, number, update, vector)
        try:
            self._clients[number], masked = self._clients[number].mask(partners, vector)
        except RefusedMessage:
            return None
        data = to_bytes(masked)
        self.memory.keep(self.name_of(number), order.round, order.plan.session, VECTOR, data)
        return Reply(client=number, data=data)

    def _sound(self, message: Message) -> Update:
        """The update of a client; zeros where it cannot be summed. Falling silent then would tell the server, without
        any noise, that its texts made the training end so."""
        assert self._order is not None, "begin comes first"
        try:
            check_update(message.update, self._order.arrays)
            why = message.refused
        except (RefusedUpdate, AttributeError, TypeError) as error:
            why = str(error) if isinstance(error, RefusedUpdate) else "no update"
        if not why:
            return message.update
        about = f"round {self._order.round}: client {self.name_of(message.client)} sends noise alone: {why}"
        console.print(about, style="yellow", highlight=False)
        return zeros_like(self._order.arrays)

    def _noised(self, number: int, update: Update) -> Vector:
        """The update, clipped, rounded and with this client's share of noise."""
        assert self._order is not None, "begin comes first"
        key, round_ = self._key(number), self._order.round
        return client_vector(update, self.mechanism.noise, key=key, round_=round_, bits=self._order.plan.bits)

    def _revealed(self, number: int, message: Survivors) -> Reply:
        assert self._order is not None, "begin comes first"
        after, pieces = self._clients[number].unmask(message)
        name, session = self.name_of(number), self._order.plan.session
        self.memory.keep(name, self._order.round, session, SURVIVORS, to_bytes(message))
        self._clients[number] = after
        return Reply(client=number, data=to_bytes(pieces))

    def _key(self, number: int) -> bytes:
        return self.mechanism.client_key(self.names[number])
