# SPDX-License-Identifier: Apache-2.0
"""The client's side of SecAgg+ (Bonawitz et al. 2017, doi:10.1145/3133956.3133982; Bell et al. 2020,
doi:10.1145/3372297.3417885) against a server that keeps to the protocol and may look at everything it is sent.

A client's vector is sent with one mask of its own and one for each neighbour, which the neighbour takes off. Pieces of
two secrets lie with the neighbours: of the seed of its own mask, and of the key behind the shared ones. At the end the
first is opened for clients that sent a vector, the second for those that went away, and never both of one client: then
its vector would lie open.

A server that does not keep to the protocol can invent clients, or hand out keys of its own: nothing here proves whose a
public key is. Where the server is not trusted so far, keys must be signed by something that both clients know.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from reticent.core.errors import BadInput
from reticent.federated.secure.ciphers import Ciphers, RefusedMessage
from reticent.federated.secure.keyed_hash import Vector, add_mask, keyed_hash
from reticent.federated.secure.messages import (
    KEY_BYTES,
    DeliveredPieces,
    MaskedVector,
    Neighbourhood,
    PublicKeys,
    RevealedPieces,
    SealedPieces,
    Survivors,
)
from reticent.federated.secure.secure_plan import SecurePlan
from reticent.federated.secure.shamir import PIECE_BYTES, split

STAGES = ("new", "advertised", "shared", "masked", "unmasked")


@dataclass(frozen=True, kw_only=True)
class SecureClient:
    """A client in one session; each step gives the client after it and a message.

    The steps are `advertise`, `share`, `mask`, `unmask`, in this order, each once. Whoever keeps a client on disk has
    to keep the new one before the message leaves: an old one would answer twice, and two answers can open a vector.

    Args:
        plan: of the session.
        number: this client's.
        ciphers: see `Ciphers`.
        secret: 32 secret bytes for this session alone; all other secrets follow from them.
        stage: one of `STAGES`.
        peers: masking and sealing keys of the neighbours.
        held: pieces of the neighbours' secrets: seed, key.
    """

    plan: SecurePlan
    number: int
    ciphers: Ciphers
    secret: bytes = field(repr=False)
    stage: str = "new"
    peers: Mapping[int, bytes] = field(default_factory=dict)
    held: Mapping[int, tuple[bytes, bytes]] = field(default_factory=dict, repr=False)

    @classmethod
    def new(cls, plan: SecurePlan, number: int, ciphers: Ciphers) -> SecureClient:
        """A client with fresh secrets."""
        return cls(plan=plan, number=number, ciphers=ciphers, secret=secrets.token_bytes(KEY_BYTES))

    def advertise(self) -> tuple[SecureClient, PublicKeys]:
        """Send the public keys."""
        self._at("new", self.plan.session)
        message = PublicKeys(
            session=self.plan.session,
            sender=self.number,
            masking=self.ciphers.public(self._secret("masking")),
            sealing=self.ciphers.public(self._secret("sealing")),
            commitment=commitment(self._secret("seed"), self.plan.session),
        )
        return replace(self, stage="advertised"), message

    def share(self, message: Neighbourhood) -> tuple[SecureClient, SealedPieces]:
        """Send each neighbour a piece of the two secrets.

        Raises:
            RefusedMessage: for another client or session, out of turn, a neighbour that cannot be, or too few of them.
        """
        self._at("advertised", message.session, message.receiver)
        others = sorted(message.keys)
        if self.number in message.keys or any(len(keys) != 2 * KEY_BYTES for keys in message.keys.values()):
            raise RefusedMessage("neighbours that cannot be")
        if len(set(message.keys.values())) < len(others):
            raise RefusedMessage("two neighbours with the same keys")
        if not max(1, self.plan.threshold - 1 if self.plan.degree is None else 2) <= len(others) < self.plan.clients:
            raise RefusedMessage("too few or too many neighbours for the plan")
        needed = self._needed(len(others))
        seeds = split(self._secret("seed"), others, needed=needed, key=self._secret("seed pieces"))
        keys = split(self._secret("masking"), others, needed=needed, key=self._secret("key pieces"))
        client = replace(self, stage="shared", peers=dict(message.keys))
        envelopes = {
            other: self.ciphers.sealed(
                client._envelope_key(self.number, other), seeds[other] + keys[other], self._about(self.number, other)
            )
            for other in others
        }
        return client, SealedPieces(session=self.plan.session, sender=self.number, envelopes=envelopes)

    def mask(self, message: DeliveredPieces, values: Vector) -> tuple[SecureClient, MaskedVector]:
        """Send the vector under its masks.

        Args:
            message: envelopes of the neighbours that are still there.
            values: ``[dimension]`` uint32 below the modulus (`lattice.Lattice.wrapped`).

        Raises:
            RefusedMessage: for another client or session, out of turn, a stranger's or a changed envelope, or too few.
            BadInput: a vector of another length or range.
        """
        self._at("shared", message.session, message.receiver)
        if values.shape != (self.plan.dimension,) or values.dtype != np.uint32 or values.max() > self.plan.mask:
            raise BadInput("the vector", "must be uint32, of the plan's length and below its modulus", "Wrap it first.")
        if not set(message.envelopes) <= set(self.peers):
            raise RefusedMessage("an envelope of a stranger")
        if len(message.envelopes) < self._needed(len(self.peers)):
            raise RefusedMessage("too few neighbours are left")
        held = {other: self._open(other, envelope) for other, envelope in message.envelopes.items()}
        masked = values.copy()
        add_mask(masked, self._secret("seed"), sign=1)
        for other in held:
            shared = self.ciphers.agreed(self._secret("masking"), self.peers[other][:KEY_BYTES])
            seed = pair_seed(shared, self.plan.session, self.number, other)
            add_mask(masked, seed, sign=1 if self.number < other else -1)
        masked &= np.uint32(self.plan.mask)
        sent = MaskedVector(session=self.plan.session, sender=self.number, values=masked)
        return replace(self, stage="masked", held=held), sent

    def unmask(self, message: Survivors) -> tuple[SecureClient, RevealedPieces]:
        """Reveal one piece of each neighbour: of the seed where it is present, of the masking key where it is absent.

        Raises:
            RefusedMessage: for another client or session, out of turn; a neighbour as present and absent, or one whose
                pieces are not held; fewer present than the threshold.
        """
        self._at("masked", message.session, message.receiver)
        present, absent = set(message.present), set(message.absent)
        if present & absent or present | absent != set(self.held):
            raise RefusedMessage("neighbours that are present and absent, missing, or strangers")
        complete = self.plan.degree is None
        fewest = max(self._needed(len(self.peers)), self.plan.threshold - 1 if complete else 0)
        if len(present) < fewest or message.count < max(self.plan.threshold, len(present) + 1):
            raise RefusedMessage("fewer clients than the threshold")
        revealed = RevealedPieces(
            session=self.plan.session,
            sender=self.number,
            seeds={other: self.held[other][0] for other in sorted(present)},
            keys={other: self.held[other][1] for other in sorted(absent)},
        )
        return replace(self, stage="unmasked", held={}), revealed

    def _at(self, stage: str, session: bytes, receiver: int | None = None) -> None:
        if session != self.plan.session:
            raise RefusedMessage("a message of another session")
        if receiver is not None and receiver != self.number:
            raise RefusedMessage("a message for another client")
        if self.stage != stage:
            raise RefusedMessage("a message out of turn")

    def _needed(self, degree: int) -> int:
        try:
            return self.plan.pieces_of(degree)
        except BadInput as error:
            raise RefusedMessage("too few neighbours for the pieces that the plan asks for") from error

    def _secret(self, purpose: str) -> bytes:
        return keyed_hash(self.secret, purpose, self.plan.session, self.number)

    def _envelope_key(self, sender: int, receiver: int) -> bytes:
        """Key of one envelope; each of both directions has its own."""
        other = receiver if sender == self.number else sender
        shared = self.ciphers.agreed(self._secret("sealing"), self.peers[other][KEY_BYTES:])
        return keyed_hash(shared, "envelope", self.plan.session, sender, receiver)

    def _open(self, sender: int, envelope: bytes) -> tuple[bytes, bytes]:
        key = self._envelope_key(sender, self.number)
        text = self.ciphers.opened(key, envelope, self._about(sender, self.number))
        if len(text) != 2 * PIECE_BYTES:
            raise RefusedMessage("an envelope with something else in it")
        return text[:PIECE_BYTES], text[PIECE_BYTES:]

    def _about(self, sender: int, receiver: int) -> bytes:
        return self.plan.session + sender.to_bytes(8, "big") + receiver.to_bytes(8, "big")


def pair_seed(shared: bytes, session: bytes, one: int, other: int) -> bytes:
    """Seed of the mask of two clients, from what they agreed on."""
    return keyed_hash(shared, "pair", session, min(one, other), max(one, other))


def commitment(seed: bytes, session: bytes) -> bytes:
    """Hash that binds a client to the seed of its own mask and tells nothing of it."""
    return keyed_hash(seed, "commitment", session)
