# SPDX-License-Identifier: Apache-2.0
"""The server's side of SecAgg+: collects messages, passes on what is for others, and opens the sum of those present.

Messages that may not be taken raise `RefusedMessage`, and the round goes on without them; a round that cannot be opened
raises `UnopenedRound`. The vectors are summed as they come: one is in memory at a time. Clients that are shown to have
broken the protocol are in ``guilty``.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.federated.secure.ciphers import Ciphers, RefusedMessage
from reticent.federated.secure.disputes import BROKEN_ENVELOPE, IN_QUARRELS, WRONG_PIECES, Disputes
from reticent.federated.secure.keyed_hash import Vector, add_mask, keyed_hash
from reticent.federated.secure.messages import (
    KEY_BYTES,
    Accusation,
    Complaints,
    DeliveredPieces,
    MaskedVector,
    Message,
    Neighbourhood,
    Partners,
    PublicKeys,
    RevealedPieces,
    SealedPieces,
    ShownPieces,
    Survivors,
)
from reticent.federated.secure.neighbours import neighbours
from reticent.federated.secure.piece_digests import DIGEST_BYTES, MASKING_KEY, SEED, digests_of, fits
from reticent.federated.secure.secure_client import commitment, pair_seed
from reticent.federated.secure.secure_plan import SecurePlan
from reticent.federated.secure.shamir import PIECE_BYTES, joined

MOST_TRIES = 200
"""Choices of pieces that are tried where some of them do not fit."""
NOT_ONE_POLYNOMIAL = "pieces that it gave digests of and that give back no secret of its own"
CHANGED_PIECES = "pieces that it held and changed before it revealed them"


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

    ``receive`` takes clients' messages. ``neighbourhoods``, ``deliveries``, ``accusations``, ``partners``,
    ``survivors`` and ``opened`` end the parts of the round, in this order.

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
        self._envelopes: dict[int, SealedPieces] = {}
        self._disputes = Disputes(spare={})
        self._accused: dict[int, tuple[int, ...]] = {}
        self._masking: set[int] = set()
        self._vectors: set[int] = set()
        self._sum: Vector = np.zeros(plan.dimension, dtype=np.uint32)
        self._revealed: dict[int, RevealedPieces] = {}
        self.digested = False
        """Whether `digest` was asked for, so that the sum may be known to others by now."""
        self.left: frozenset[int] = frozenset()
        """Clients that did their share of the last part that was ended."""
        self.guilty: dict[int, str] = {}
        """Clients of which it is known that they broke the protocol, and by what."""
        self.noted: list[tuple[int, str, int | None]] = []
        """Clients that something is said of which is no proof: what, and by which client."""

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
            case Complaints():
                self._take_complaints(message, sender)
            case ShownPieces():
                self._take_shown(message, sender)
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
        self._end(SealedPieces, self._envelopes, Complaints)
        senders = {client: self._linked(client, self._envelopes) for client in sorted(self._envelopes)}
        return {
            client: DeliveredPieces(
                session=self.plan.session,
                receiver=client,
                envelopes={other: self._envelopes[other].envelopes[client] for other in others},
                digests={other: self._envelopes[other].digests[client] for other in others},
            )
            for client, others in senders.items()
        }

    def accusations(self) -> dict[int, Accusation]:
        """End the part of complaints: who is to show pieces; mostly nobody."""
        self._end(Complaints, self._disputes.complaints, ShownPieces)
        self._disputes.spare = {client: self.plan.spare_of(len(others)) for client, others in self._graph.items()}
        self._accused = self._disputes.accused()
        return {
            client: Accusation(session=self.plan.session, receiver=client, by=by)
            for client, by in self._accused.items()
        }

    def partners(self) -> dict[int, Partners]:
        """End the part of shown pieces: for each client that is left, with whom it masks."""
        shown = self._disputes.shown
        self.noted += [(sender, BROKEN_ENVELOPE, by) for sender, by in sorted(shown)]
        gone = self._disputes.removed(self.guilty)
        self.noted += [(client, IN_QUARRELS, None) for client in gone if client not in self.guilty]
        self._masking = set(self._disputes.complaints) - set(gone)
        self._end(ShownPieces, self._masking, MaskedVector)
        return {
            client: Partners(
                session=self.plan.session,
                receiver=client,
                partners=tuple(self._linked(client, self._masking)),
                shown={
                    sender: text for (sender, by), text in shown.items() if by == client and sender in self._masking
                },
            )
            for client in sorted(self._masking)
        }

    def survivors(self) -> dict[int, Survivors]:
        """End the part of vectors: for each client that sent one, which of its neighbours did."""
        self._end(MaskedVector, self._vectors, RevealedPieces)
        return {
            client: Survivors(
                session=self.plan.session,
                receiver=client,
                present=tuple(self._linked(client, self._vectors)),
                absent=tuple(self._linked(client, self._masking - self._vectors)),
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
        self._awaits, self.left = None, frozenset(self._revealed)
        # All of them before any mask is taken off: who dealt pieces of no secret is to be named, each of them.
        seeds = {client: self._seed_of(client) for client in sorted(self._vectors)}
        absent = [i for i in sorted(self._masking - self._vectors) if self._linked(i, self._vectors)]
        keys = {client: self._masking_key_of(client) for client in absent}
        if None in (*seeds.values(), *keys.values()):
            raise UnopenedRound("pieces of a client's secret are too few, or do not fit")
        total = self._sum
        for seed in seeds.values():
            add_mask(total, seed or b"", sign=-1)
        for client, key in keys.items():
            self._take_off_pairs(total, client, key or b"")
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
        if set(message.digests) != set(message.envelopes):
            raise RefusedMessage("envelopes without digests of what is in them")
        if any(len(digests) != 2 * DIGEST_BYTES for digests in message.digests.values()):
            raise RefusedMessage("digests of another length")
        self._envelopes[sender] = message

    def _take_complaints(self, message: Complaints, sender: int) -> None:
        self._once(message.sender, sender, self._disputes.complaints)
        if sender not in self._envelopes:
            raise RefusedMessage("complaints of a client that sent no envelopes")
        if not set(message.against) <= set(self._linked(sender, self._envelopes)):
            raise RefusedMessage("a complaint about a client that it had no envelope of")
        self._disputes.complaints[sender] = tuple(sorted(set(message.against)))

    def _take_shown(self, message: ShownPieces, sender: int) -> None:
        self._once(message.sender, sender, {dealer for dealer, _ in self._disputes.shown} | set(self.guilty))
        if set(message.pieces) != set(self._accused.get(sender, ())) or not message.pieces:
            raise RefusedMessage("other pieces than were asked for")
        digests = self._envelopes[sender].digests
        for by, text in message.pieces.items():
            given = digests_of(text, self.plan.session, dealer=sender, holder=by)
            if len(text) != 2 * PIECE_BYTES or given != digests[by]:
                self._found_guilty(sender, WRONG_PIECES)
        self._disputes.shown |= {(sender, by): text for by, text in message.pieces.items()}

    def _take_vector(self, message: MaskedVector, sender: int) -> None:
        self._once(message.sender, sender, self._vectors)
        values = message.values
        if sender not in self._masking:
            raise RefusedMessage("a vector of a client that was to send none")
        if values.shape != self._sum.shape or values.dtype != np.uint32 or values.max() > self.plan.mask:
            raise RefusedMessage("a vector of another length, type or range")
        self._sum += values
        self._vectors.add(sender)

    def _take_pieces(self, message: RevealedPieces, sender: int) -> None:
        self._once(message.sender, sender, self._revealed)
        if sender not in self._vectors:
            raise RefusedMessage("pieces from a client that sent no vector")
        linked = set(self._linked(sender, self._masking))
        if set(message.seeds) != linked & self._vectors or set(message.keys) != linked - self._vectors:
            raise RefusedMessage("other pieces than were asked for")
        if not all(self._fits(sender, piece, SEED, dealer) for dealer, piece in message.seeds.items()):
            self._found_guilty(sender, CHANGED_PIECES)
        if not all(self._fits(sender, piece, MASKING_KEY, dealer) for dealer, piece in message.keys.items()):
            self._found_guilty(sender, CHANGED_PIECES)
        self._revealed[sender] = message

    def _fits(self, holder: int, piece: bytes, secret: int, dealer: int) -> bool:
        """Is a revealed piece the one that its dealer gave a digest of? The holder has compared it before it masked."""
        digests = self._envelopes[dealer].digests[holder]
        return fits(piece, digests, self.plan.session, dealer=dealer, holder=holder, secret=secret)

    def _found_guilty(self, client: int, reason: str) -> NoReturn:
        self.guilty.setdefault(client, reason)
        raise RefusedMessage(reason)

    @staticmethod
    def _once(claimed: int, sender: int, taken: Container[int]) -> None:
        if claimed != sender:
            raise RefusedMessage("a message in the name of another client")
        if sender in taken:
            raise RefusedMessage("a second message of the same client")

    def _end(self, part: type[Message], taken: Collection[int], following: type[Message]) -> None:
        if self._awaits is not part:
            raise RefusedMessage("the end of a part that has not begun")
        self.left = frozenset(taken)
        if len(taken) < self.plan.threshold:
            self._awaits = None
            raise UnopenedRound(f"{len(taken)} clients are left, and {self.plan.threshold} are needed")
        self._awaits = following

    # ---- masks ----

    def _linked(self, client: int, among: Container[int]) -> list[int]:
        """Neighbours of a client that are among others."""
        return [other for other in self._graph[client] if other in among]

    def _seed_of(self, client: int) -> bytes | None:
        expected = self._keys[client].commitment
        pieces = {i: message.seeds[client] for i, message in self._revealed.items() if client in message.seeds}
        return self._secret(client, pieces, lambda seed: commitment(seed, self.plan.session) == expected)

    def _masking_key_of(self, client: int) -> bytes | None:
        expected = self._keys[client].masking
        pieces = {i: message.keys[client] for i, message in self._revealed.items() if client in message.keys}
        return self._secret(client, pieces, lambda key: self._ciphers.public(key) == expected)

    def _secret(self, client: int, pieces: Mapping[int, bytes], right: Callable[[bytes], bool]) -> bytes | None:
        """The secret behind pieces; None where there are too few. All are those that the client gave digests of, so
        where a choice of them gives something else the client dealt pieces of no secret."""
        for secret in self._secrets(client, pieces):
            if secret is not None and right(secret):
                return secret
            self.guilty.setdefault(client, NOT_ONE_POLYNOMIAL)
        return None

    def _take_off_pairs(self, total: Vector, client: int, key: bytes) -> None:
        for other in self._linked(client, self._vectors):
            shared = self._ciphers.agreed(key, self._keys[other].masking)
            # What the partner added is taken off.
            seed = pair_seed(shared, self.plan.session, client, other)
            add_mask(total, seed, sign=-1 if other < client else 1)

    def _secrets(self, client: int, pieces: Mapping[int, bytes]) -> Iterator[bytes | None]:
        """Secrets that choices of the pieces give, None where they give none; one choice does where the client dealt
        pieces of one secret."""
        needed = self.plan.pieces_of(len(self._graph[client]))
        for chosen in itertools.islice(itertools.combinations(sorted(pieces), needed), MOST_TRIES):
            try:
                yield joined({i: pieces[i] for i in chosen})
            except BadInput:
                yield None
