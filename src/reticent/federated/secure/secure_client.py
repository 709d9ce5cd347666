# SPDX-License-Identifier: Apache-2.0
"""The client's side of SecAgg+ (Bonawitz et al. 2017, doi:10.1145/3133956.3133982; Bell et al. 2020,
doi:10.1145/3372297.3417885) against a server that keeps to the protocol and may look at everything it is sent.

A client's vector is sent with one mask of its own and one for each neighbour, which the neighbour takes off. Pieces of
two secrets lie with the neighbours: of the seed of its own mask, and of the key behind the shared ones. At the end the
first is opened for clients that sent a vector, the second for those that went away, and never both of one client: then
its vector would lie open.

Pieces are bound by digests. Who finds others in an envelope, or cannot open it, says so before anything is masked, and
the sender shows them (`disputes`).

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
    Accusation,
    Complaints,
    DeliveredPieces,
    MaskedVector,
    Neighbourhood,
    Partners,
    PublicKeys,
    RevealedPieces,
    SealedPieces,
    ShownPieces,
    Survivors,
)
from reticent.federated.secure.piece_digests import digests_of
from reticent.federated.secure.secure_plan import SecurePlan
from reticent.federated.secure.shamir import PIECE_BYTES, split

STAGES = ("new", "advertised", "shared", "checked", "shown", "masked", "unmasked")
SALT_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class SecureClient:
    """A client in one session; each step gives the client after it and a message.

    The steps are `advertise`, `share`, `check`, `show` where it is asked for, `mask`, `unmask`, in this order, each
    once. Whoever keeps a client on disk has to keep the new one before the message leaves: an old one would answer
    twice, and two answers can open a vector.

    Args:
        plan: of the session.
        number: this client's.
        ciphers: see `Ciphers`.
        secret: 32 secret bytes for this session alone; all other secrets follow from them.
        stage: one of `STAGES`.
        peers: masking and sealing keys of the neighbours.
        held: pieces of the neighbours' secrets: seed, key.
        digests: of the pieces that this client should hold, as their senders gave them.
    """

    plan: SecurePlan
    number: int
    ciphers: Ciphers
    secret: bytes = field(repr=False)
    stage: str = "new"
    peers: Mapping[int, bytes] = field(default_factory=dict)
    held: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    digests: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def new(cls, plan: SecurePlan, number: int, ciphers: Ciphers) -> SecureClient:
        """A client with fresh secrets."""
        return cls(plan=plan, number=number, ciphers=ciphers, secret=secrets.token_bytes(KEY_BYTES))

    def advertise(self) -> tuple[SecureClient, PublicKeys]:
        """Send the public keys."""
        self._at(("new",), self.plan.session)
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
        self._at(("advertised",), message.session, message.receiver)
        others = sorted(message.keys)
        if self.number in message.keys or any(len(keys) != 2 * KEY_BYTES for keys in message.keys.values()):
            raise RefusedMessage("neighbours that cannot be")
        if len(set(message.keys.values())) < len(others):
            raise RefusedMessage("two neighbours with the same keys")
        if not max(1, self.plan.threshold - 1 if self.plan.degree is None else 2) <= len(others) < self.plan.clients:
            raise RefusedMessage("too few or too many neighbours for the plan")
        self._needed(len(others))
        client = replace(self, stage="shared", peers=dict(message.keys))
        pieces = client._dealt()
        sealed = SealedPieces(
            session=self.plan.session,
            sender=self.number,
            envelopes={other: client._sealed(other, text) for other, text in pieces.items()},
            digests={other: client._digests(text, self.number, other) for other, text in pieces.items()},
        )
        return client, sealed

    def check(self, message: DeliveredPieces) -> tuple[SecureClient, Complaints]:
        """Open the envelopes, and say whose do not open or hold other pieces than their sender gave digests of.

        Raises:
            RefusedMessage: for another client or session, out of turn, a stranger's envelope, one without digests, or
                too few.
        """
        self._at(("shared",), message.session, message.receiver)
        if not set(message.envelopes) == set(message.digests) <= set(self.peers):
            raise RefusedMessage("an envelope of a stranger, or without digests")
        if len(message.envelopes) < self._needed(len(self.peers)):
            raise RefusedMessage("too few neighbours are left")
        opened = {other: self._opened(other, envelope) for other, envelope in message.envelopes.items()}
        held = {
            other: text
            for other, text in opened.items()
            if text is not None and self._digests(text, other, self.number) == message.digests[other]
        }
        against = tuple(sorted(set(message.envelopes) - set(held)))
        client = replace(self, stage="checked", held=held, digests=dict(message.digests))
        return client, Complaints(session=self.plan.session, sender=self.number, against=against)

    def show(self, message: Accusation) -> tuple[SecureClient, ShownPieces]:
        """Show what was in the envelopes of neighbours that say they did not open.

        Raises:
            RefusedMessage: for another client or session, out of turn, for a stranger, or for more than can be spared:
                with those who keep silent, or tell what they hold, the server could come to enough of both secrets.
        """
        self._at(("checked",), message.session, message.receiver)
        if not set(message.by) <= set(self.peers) or len(message.by) > self.plan.spare_of(len(self.peers)):
            raise RefusedMessage("pieces for strangers, or for more neighbours than can be spared")
        dealt = self._dealt()
        shown = {other: dealt[other] for other in message.by}
        return replace(self, stage="shown"), ShownPieces(session=self.plan.session, sender=self.number, pieces=shown)

    def mask(self, message: Partners, values: Vector) -> tuple[SecureClient, MaskedVector]:
        """Send the vector under its masks.

        Args:
            message: neighbours that are still there.
            values: ``[dimension]`` uint32 below the modulus (`lattice.Lattice.wrapped`).

        Raises:
            RefusedMessage: for another client or session, out of turn, partners whose pieces are not held, pieces that
                do not fit to their digests, or too few partners.
            BadInput: a vector of another length or range.
        """
        self._at(("checked", "shown"), message.session, message.receiver)
        if values.shape != (self.plan.dimension,) or values.dtype != np.uint32 or values.max() > self.plan.mask:
            raise BadInput("the vector", "must be uint32, of the plan's length and below its modulus", "Wrap it first.")
        for other, text in message.shown.items():
            if len(text) != 2 * PIECE_BYTES or self.digests.get(other) != self._digests(text, other, self.number):
                raise RefusedMessage("shown pieces that do not fit")
        texts = {**message.shown, **self.held}
        if not set(message.partners) <= set(texts):
            raise RefusedMessage("a partner whose pieces are not held")
        if len(set(message.partners)) < self._needed(len(self.peers)):
            raise RefusedMessage("too few neighbours are left")
        held = {other: texts[other] for other in message.partners}
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
        self._at(("masked",), message.session, message.receiver)
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
            seeds={other: self.held[other][:PIECE_BYTES] for other in sorted(present)},
            keys={other: self.held[other][PIECE_BYTES:] for other in sorted(absent)},
        )
        return replace(self, stage="unmasked", held={}), revealed

    def _at(self, stages: tuple[str, ...], session: bytes, receiver: int | None = None) -> None:
        if session != self.plan.session:
            raise RefusedMessage("a message of another session")
        if receiver is not None and receiver != self.number:
            raise RefusedMessage("a message for another client")
        if self.stage not in stages:
            raise RefusedMessage("a message out of turn")

    def _needed(self, degree: int) -> int:
        try:
            return self.plan.pieces_of(degree)
        except BadInput as error:
            raise RefusedMessage("too few neighbours for the pieces that the plan asks for") from error

    def _secret(self, purpose: str) -> bytes:
        return keyed_hash(self.secret, purpose, self.plan.session, self.number)

    def _dealt(self) -> dict[int, bytes]:
        """Pieces of both secrets for each neighbour: the same ones for the same neighbours, and of other polynomials
        for others, so that pieces of a round that was cut off and of the one that is run again do not go together."""
        others = sorted(self.peers)
        needed = self._needed(len(others))
        seeds, keys = (
            split(
                self._secret(secret),
                others,
                needed=needed,
                key=keyed_hash(self._secret(f"{secret} pieces"), "holders", needed, *others),
            )
            for secret in ("seed", "masking")
        )
        return {other: seeds[other] + keys[other] for other in others}

    def _sealed(self, receiver: int, text: bytes) -> bytes:
        """An envelope. Its key depends on the text, by a salt in front: however often a round is run again, with
        whatever neighbours, no key and nonce seal two texts. The salt tells whether the same text was sent before."""
        salt = keyed_hash(self._secret("salts"), "salt", receiver, text, size=SALT_BYTES)
        return salt + self.ciphers.sealed(
            self._envelope_key(self.number, receiver, salt), text, self._about(self.number, receiver)
        )

    def _opened(self, sender: int, envelope: bytes) -> bytes | None:
        """The text of an envelope; None where it does not open, or holds something else than two pieces."""
        key = self._envelope_key(sender, self.number, envelope[:SALT_BYTES])
        try:
            text = self.ciphers.opened(key, envelope[SALT_BYTES:], self._about(sender, self.number))
        except RefusedMessage:
            return None
        return text if len(text) == 2 * PIECE_BYTES else None

    def _envelope_key(self, sender: int, receiver: int, salt: bytes) -> bytes:
        """Key of one envelope; each of both directions has its own, and each text."""
        other = receiver if sender == self.number else sender
        shared = self.ciphers.agreed(self._secret("sealing"), self.peers[other][KEY_BYTES:])
        return keyed_hash(shared, "envelope", self.plan.session, sender, receiver, salt)

    def _digests(self, text: bytes, dealer: int, holder: int) -> bytes:
        return digests_of(text, self.plan.session, dealer=dealer, holder=holder)

    def _about(self, sender: int, receiver: int) -> bytes:
        return self.plan.session + sender.to_bytes(8, "big") + receiver.to_bytes(8, "big")


def pair_seed(shared: bytes, session: bytes, one: int, other: int) -> bytes:
    """Seed of the mask of two clients, from what they agreed on."""
    return keyed_hash(shared, "pair", session, min(one, other), max(one, other))


def commitment(seed: bytes, session: bytes) -> bytes:
    """Hash that binds a client to the seed of its own mask and tells nothing of it."""
    return keyed_hash(seed, "commitment", session)
