# SPDX-License-Identifier: Apache-2.0
"""The server's side of SecAgg+: collects messages, passes on what is for others, and opens the sum of those present.

Messages that may not be taken raise `RefusedMessage`, and the round goes on without them; a round that cannot be opened
raises `UnopenedRound`. The vectors are summed as they come: one is in memory at a time.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Container, Iterator, Mapping, Sized
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.federated.secure.ciphers import Ciphers, RefusedMessage
from reticent.federated.secure.keyed_hash import Vector, add_mask, keyed_hash
from reticent.federated.secure.messages import (
    KEY_BYTES,
    DeliveredPieces,
    MaskedVector,
    Message,
    Neighbourhood,
    PublicKeys,
    RevealedPieces,
    SealedPieces,
    Survivors,
)
from reticent.federated.secure.neighbours import neighbours
from reticent.federated.secure.secure_client import commitment, pair_seed
from reticent.federated.secure.secure_plan import SecurePlan
from reticent.federated.secure.shamir import PIECE_BYTES, joined

MOST_TRIES = 200
"""Choices of pieces that are tried where some of them do not fit."""


class UnopenedRound(RuntimeError):
    """Too few clients are left to open the sum; nothing of it was learned."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedSum:
    """The sum of a round.

    Args:
        total: ``[dimension]`` int64, the sum of the vectors of ``clients`` in the symmetric range of the modulus.
        clients: whose vectors are in it.
        gone: who began and is not in it.
    """

    total: npt.NDArray[np.int64]
    clients: tuple[int, ...]
    gone: tuple[int, ...]


class SecureServer:
    """The server in one session.

    ``receive`` takes clients' messages. ``neighbourhoods``, ``deliveries``, ``survivors`` and ``opened`` end the four
    parts of the round, in this order.

    Args:
        plan: of the session.
        ciphers: see `Ciphers`.
        key: 32 secret bytes for this session, for the order of the ring.
    """

    def __init__(self, plan: SecurePlan, ciphers: Ciphers, *, key: bytes) -> None:
        self.plan = plan
        self._ciphers = ciphers
        self._key = key
        self._awaits: type[Message] | None = PublicKeys
        self._keys: dict[int, PublicKeys] = {}
        self._graph: dict[int, tuple[int, ...]] = {}
        self._envelopes: dict[int, Mapping[int, bytes]] = {}
        self._vectors: set[int] = set()
        self._sum: Vector = np.zeros(plan.dimension, dtype=np.uint32)
        self._revealed: dict[int, RevealedPieces] = {}
        self.digested = False
        """Whether `digest` was asked for, so that the sum may be known to others by now."""

    def receive(self, message: Message, *, sender: int) -> None:
        """Take a client's message.

        Args:
            message: of any kind.
            sender: the client that the transport knows it to be from.

        Raises:
            RefusedMessage: another session or sender, out of turn, twice, or not as it has to be.
        """
        if message.session != self.plan.session:
            raise RefusedMessage("a message of another session")
        if self._awaits is None or type(message) is not self._awaits:
            raise RefusedMessage("a message out of turn")
        match message:
            case PublicKeys():
                self._take_keys(message, sender)
            case SealedPieces():
                self._take_envelopes(message, sender)
            case MaskedVector():
                self._take_vector(message, sender)
            case RevealedPieces():
                self._take_pieces(message, sender)

    def neighbourhoods(self) -> dict[int, Neighbourhood]:
        """End the part of keys: for each client the keys of its neighbours."""
        self._end(PublicKeys, self._keys, SealedPieces)
        self._graph = neighbours(self._keys, degree=self.plan.degree, key=self._key)
        return {
            client: Neighbourhood(
                session=self.plan.session,
                receiver=client,
                keys={other: self._keys[other].masking + self._keys[other].sealing for other in others},
            )
            for client, others in self._graph.items()
        }

    def deliveries(self) -> dict[int, DeliveredPieces]:
        """End the part of pieces: for each client that sent envelopes those that are for it."""
        self._end(SealedPieces, self._envelopes, MaskedVector)
        return {
            client: DeliveredPieces(
                session=self.plan.session,
                receiver=client,
                envelopes={other: self._envelopes[other][client] for other in self._linked(client)},
            )
            for client in sorted(self._envelopes)
        }

    def survivors(self) -> dict[int, Survivors]:
        """End the part of vectors: for each client that sent one, which of its neighbours did."""
        self._end(MaskedVector, self._vectors, RevealedPieces)
        return {
            client: Survivors(
                session=self.plan.session,
                receiver=client,
                present=tuple(other for other in self._linked(client) if other in self._vectors),
                absent=tuple(other for other in self._linked(client) if other not in self._vectors),
                count=len(self._vectors),
            )
            for client in sorted(self._vectors)
        }

    def digest(self) -> str:
        """SHA-256 in hex of what would be opened: who is in the sum, and the sum under its masks."""
        self.digested = True
        hashed = hashlib.sha256(repr(sorted(self._vectors)).encode())
        hashed.update((self._sum & np.uint32(self.plan.mask)).tobytes())
        return hashed.hexdigest()

    def opened(self) -> OpenedSum:
        """End the round: take the masks off and give the sum.

        Raises:
            UnopenedRound: too few pieces, or ones that do not fit.
        """
        if self._awaits is not RevealedPieces:
            raise RefusedMessage("the end of a part that has not begun")
        self._awaits = None
        total = self._sum
        for client in sorted(self._vectors):
            add_mask(total, self._seed_of(client), sign=-1)
        for client in sorted(set(self._envelopes) - self._vectors):
            self._take_off_pairs(total, client)
        modulus = 1 << self.plan.bits
        wrapped = (total & np.uint32(self.plan.mask)).astype(np.int64)
        return OpenedSum(
            total=np.where(wrapped >= modulus // 2, wrapped - modulus, wrapped),
            clients=tuple(sorted(self._vectors)),
            gone=tuple(sorted(set(self._keys) - self._vectors)),
        )

    # ---- messages ----

    def _take_keys(self, message: PublicKeys, sender: int) -> None:
        self._once(message.sender, sender, self._keys)
        if len(self._keys) >= self.plan.clients:
            raise RefusedMessage("one client more than the plan has")
        if any(len(part) != KEY_BYTES for part in (message.masking, message.sealing, message.commitment)):
            raise RefusedMessage("keys of another length")
        if any(message.masking == other.masking or message.sealing == other.sealing for other in self._keys.values()):
            raise RefusedMessage("keys of another client")
        for public in (message.masking, message.sealing):
            # Passed on, one that agrees with nobody would stop all neighbours of this client.
            self._ciphers.agreed(keyed_hash(self._key, "probe"), public)
        self._keys[sender] = message

    def _take_envelopes(self, message: SealedPieces, sender: int) -> None:
        self._once(message.sender, sender, self._envelopes)
        if set(message.envelopes) != set(self._graph.get(sender, ())) or not message.envelopes:
            raise RefusedMessage("envelopes for others than the client's neighbours")
        self._envelopes[sender] = message.envelopes

    def _take_vector(self, message: MaskedVector, sender: int) -> None:
        self._once(message.sender, sender, self._vectors)
        values = message.values
        if sender not in self._envelopes:
            raise RefusedMessage("a vector of a client that sent no envelopes")
        if values.shape != self._sum.shape or values.dtype != np.uint32 or values.max() > self.plan.mask:
            raise RefusedMessage("a vector of another length, type or range")
        self._sum += values
        self._vectors.add(sender)

    def _take_pieces(self, message: RevealedPieces, sender: int) -> None:
        self._once(message.sender, sender, self._revealed)
        if sender not in self._vectors:
            raise RefusedMessage("pieces from a client that sent no vector")
        linked = set(self._linked(sender))
        if set(message.seeds) != linked & self._vectors or set(message.keys) != linked - self._vectors:
            raise RefusedMessage("other pieces than were asked for")
        if any(len(piece) != PIECE_BYTES for piece in (*message.seeds.values(), *message.keys.values())):
            raise RefusedMessage("pieces of another length")
        self._revealed[sender] = message

    @staticmethod
    def _once(claimed: int, sender: int, taken: Container[int]) -> None:
        if claimed != sender:
            raise RefusedMessage("a message in the name of another client")
        if sender in taken:
            raise RefusedMessage("a second message of the same client")

    def _end(self, part: type[Message], taken: Sized, following: type[Message]) -> None:
        if self._awaits is not part:
            raise RefusedMessage("the end of a part that has not begun")
        if len(taken) < self.plan.threshold:
            self._awaits = None
            raise UnopenedRound(f"{len(taken)} clients are left, and {self.plan.threshold} are needed")
        self._awaits = following

    # ---- masks ----

    def _linked(self, client: int) -> list[int]:
        """Neighbours that a client shares a mask with: those that sent envelopes."""
        return [other for other in self._graph[client] if other in self._envelopes]

    def _seed_of(self, client: int) -> bytes:
        expected = self._keys[client].commitment
        pieces = {i: message.seeds[client] for i, message in self._revealed.items() if client in message.seeds}
        for seed in self._secrets(client, pieces):
            if commitment(seed, self.plan.session) == expected:
                return seed
        raise UnopenedRound("pieces of a client's seed are too few, or do not fit")

    def _take_off_pairs(self, total: Vector, client: int) -> None:
        expected = self._keys[client].masking
        partners = [other for other in self._linked(client) if other in self._vectors]
        if not partners:
            return
        pieces = {i: message.keys[client] for i, message in self._revealed.items() if client in message.keys}
        for secret in self._secrets(client, pieces):
            if self._ciphers.public(secret) == expected:
                break
        else:
            raise UnopenedRound("pieces of a client's key are too few, or do not fit")
        for other in partners:
            shared = self._ciphers.agreed(secret, self._keys[other].masking)
            # What the partner added is taken off.
            seed = pair_seed(shared, self.plan.session, client, other)
            add_mask(total, seed, sign=-1 if other < client else 1)

    def _secrets(self, client: int, pieces: Mapping[int, bytes]) -> Iterator[bytes]:
        """Secrets that choices of the pieces give; one choice does where nobody changed any."""
        needed = self.plan.pieces_of(len(self._graph[client]))
        for chosen in itertools.islice(itertools.combinations(sorted(pieces), needed), MOST_TRIES):
            try:
                yield joined({i: pieces[i] for i in chosen})
            except BadInput:
                continue
