# SPDX-License-Identifier: Apache-2.0
"""ClientMechanism: who takes part in which round, how their updates are clipped and noised, and what that costs.

Sampling, noise and accounting are those of `tune` (`reticent.privacy`), with a client in place of a record: in each
round each client takes part by a coin of its own with chance q, updates are clipped to C, and the sum gets Gaussian
noise of z·C. A round is one Poisson-sampled Gaussian, whether or not the clip norm adapts (`adaptive_clip`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.federated.adaptive_clip import SHARE, AdaptiveClip
from reticent.federated.client_privacy import POISSON, SAMPLING, SHUFFLED, ClientPrivacy
from reticent.federated.client_statement import client_statement
from reticent.federated.private_round import PrivateRound, RoundSetup
from reticent.federated.tree_noise import Node, as_one, in_turn, nodes_of, rounds_of_pass
from reticent.federated.update import Update
from reticent.privacy import accounting
from reticent.privacy.accounting import EpsilonSpent
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.plan import default_delta
from reticent.privacy.sampling import by_coins, check_key
from reticent.privacy.spec import ADD_OR_REMOVE, ZERO_OUT

COINS = "client"
"""Purpose of the key's words that clients are drawn by; those of records are others."""


@dataclass(frozen=True, kw_only=True)
class ClientMechanism:
    """A private federation that is settled. Made by `calibrated`, or field by field.

    Args:
        clients: N, how many there are.
        expected: q·N, how many take part in a round: on average with "poisson", exactly with "shuffled".
        rounds: how many are accounted for at most.
        noise_multiplier: z, standard deviation of the round's one accounted Gaussian over the clip norm; with
            "shuffled", of each node of the tree.
        clip_norm: C of the first round.
        delta: chance that the promise may fail, for each client.
        key: 32 secret bytes that draws and noise follow from.
        adaptive: how the clip norm moves; None where it is fixed.
        sampling: "poisson" or "shuffled".

    Raises:
        BadInput: a number out of range, more expected clients than there are, a delta that allows a client to be
            published, or noise on the bits that is too little.

    Examples:
        >>> import hashlib
        >>> key = hashlib.sha256(b"use secrets.token_bytes(32) instead").digest()
        >>> mechanism = ClientMechanism(
        ...     clients=98, expected=20, rounds=30, noise_multiplier=1.0, clip_norm=0.1, delta=1e-3, key=key
        ... )
        >>> len(mechanism.sampled(0)), round(mechanism.epsilon().epsilon, 2)
        (18, 5.46)
    """

    clients: int
    expected: float
    rounds: int
    noise_multiplier: float
    clip_norm: float
    delta: float
    key: bytes = field(repr=False)
    adaptive: AdaptiveClip | None = None
    sampling: str = POISSON

    def __post_init__(self) -> None:
        check_population(self.clients, self.expected, self.delta)
        validate.positive(rounds=self.rounds, noise_multiplier=self.noise_multiplier, clip_norm=self.clip_norm)
        validate.one_of(SAMPLING, sampling=self.sampling)
        check_key(self.key)
        if self.sampling == SHUFFLED:
            if self.adaptive is not None:
                raise BadInput("adaptive with sampling='shuffled'", "is not accounted for", "Give a fixed clip norm.")
            if self.expected != int(self.expected):
                raise BadInput(f"expected={self.expected!r}", "must be whole where all take turns", "Round it.")
        _ = self.update_noise

    @property
    def rate(self) -> float:
        """q, the chance of a client to take part in a round; with "shuffled", the share that does."""
        return self.expected / self.clients

    @property
    def relation(self) -> str:
        """The data sets that cannot be told apart."""
        return ADD_OR_REMOVE if self.sampling == POISSON else ZERO_OUT

    @property
    def pass_length(self) -> int:
        """With "shuffled": rounds until all have had their turn."""
        return rounds_of_pass(self.clients, int(self.expected))

    @property
    def update_noise(self) -> float:
        """Standard deviation of the noise on the sum of updates, over the norm they were clipped to: z, or z_Δ."""
        if self.adaptive is None:
            return self.noise_multiplier
        return self.adaptive.update_noise(self.noise_multiplier)

    def composed(self, rounds_run: int) -> tuple[Mechanism, int]:
        """A step and how often it is taken in so many rounds (1 or more), for the accountant."""
        if self.sampling == SHUFFLED:
            return as_one(self.noise_multiplier, rounds=rounds_run, pass_length=self.pass_length), 1
        return Mechanism(noise_multiplier=self.noise_multiplier, rate=self.rate), rounds_run

    def epsilon(self, rounds_run: int | None = None) -> EpsilonSpent:
        """ε of each client after so many rounds; after all where it is left out.

        Raises:
            BadInput: more rounds than are planned, or too little noise to promise anything.
        """
        rounds = self.rounds if rounds_run is None else rounds_run
        if not 0 <= rounds <= self.rounds:
            raise BadInput(f"{rounds} rounds", f"{self.rounds} are planned", "Plan for all rounds that are run.")
        if rounds == 0:
            return EpsilonSpent(0.0, 0.0)
        step, times = self.composed(rounds)
        return accounting.spent(step, steps=times, delta=self.delta)

    def statement(self, rounds_run: int | None = None) -> str:
        """The promise in a sentence that never says ε without unit, δ, relation, N, q and rounds."""
        rounds = self.rounds if rounds_run is None else rounds_run
        return client_statement(
            epsilon=self.epsilon(rounds).epsilon,
            delta=self.delta,
            clients=self.clients,
            expected=self.expected,
            rounds=rounds,
            noise_multiplier=self.noise_multiplier,
            how=self._how(),
        )

    def _how(self) -> str:
        return self.sampling if self.adaptive is None else "adaptive"

    def sampled(self, round_number: int) -> npt.NDArray[np.int64]:
        """Numbers of the clients of that round, rising; may be none with "poisson".

        Raises:
            BadInput: a round that is not accounted for.
        """
        self._check_round(round_number)
        if self.sampling == SHUFFLED:
            return in_turn(self.key, round_number, clients=self.clients, per_round=int(self.expected))
        return by_coins(self.key, COINS, round_number, units=self.clients, rate=self.rate)

    def nodes(self, round_number: int) -> tuple[Node, ...]:
        """The noise of the key that goes on the sum of that round."""
        if self.sampling == SHUFFLED:
            return nodes_of(round_number, self.pass_length)
        return (Node(1, round_number),)

    def open_round(self, round_number: int, clip: float, like: Update) -> PrivateRound:
        """Begin a round.

        Args:
            round_number: from 0. A round that is opened again, after a crash, has the same clients and noise, so it
                must be given the same updates.
            clip: the norm to clip to: ``clip_norm``, or what the round before said.
            like: the global arrays.
        """
        self._check_round(round_number)
        validate.positive(clip=clip)
        setup = RoundSetup(
            round=round_number,
            clip=clip,
            drawn=tuple(self.sampled(round_number).tolist()),
            denominator=self.expected,
            update_noise=self.update_noise,
            nodes=self.nodes(round_number),
            adaptive=self.adaptive,
            key=self.key,
        )
        return PrivateRound(setup, like)

    def _check_round(self, round_number: int) -> None:
        if not 0 <= round_number < self.rounds:
            raise BadInput(
                f"round {round_number}", f"must be in 0 … {self.rounds - 1}", "Plan for all rounds that are run."
            )


def calibrated(spec: ClientPrivacy, *, clients: int, expected: float, rounds: int, key: bytes) -> ClientMechanism:
    """The mechanism that keeps the promise of ``spec``, with the least noise to three digits.

    Args:
        spec: of a private federation.
        clients: how many there are.
        expected: how many take part in a round.
        rounds: how many are run at most.
        key: 32 secret random bytes; who knows them can take the noise off the model.

    Raises:
        BadInput: nothing is promised, too few clients for the promise (with the number that would do), or what
            `ClientMechanism` refuses.
    """
    if not spec.is_private:
        raise BadInput("this ClientPrivacy", "promises nothing", "Give epsilon or noise_multiplier.")
    delta = default_delta(clients) if spec.delta is None else spec.delta
    check_population(clients, expected, delta)
    noise = spec.noise_multiplier
    if noise is None:
        noise = _noise(spec, clients, expected, rounds, delta)
        _check_enough(spec, noise, clients, expected, rounds)
    bits = AdaptiveClip(
        quantile=spec.target_quantile,
        learning_rate=spec.clip_learning_rate,
        bit_noise=expected / SHARE if spec.bit_noise is None else spec.bit_noise,
    )
    return ClientMechanism(
        clients=clients,
        expected=expected,
        rounds=rounds,
        noise_multiplier=noise,
        clip_norm=spec.clip_norm,
        adaptive=bits if spec.adaptive else None,
        sampling=spec.sampling,
        delta=delta,
        key=key,
    )


def check_population(clients: int, expected: float, delta: float) -> None:
    """Refuse numbers of clients that cannot hide one of them.

    Raises:
        BadInput: fewer than 2, more expected than there are, or a delta of 1 / clients or more.
    """
    if clients < 2:
        raise BadInput(f"{clients} clients", "cannot hide one among others", "Give at least 2.")
    if not 0 < expected <= clients:
        raise BadInput(
            f"{expected:g} expected clients a round",
            f"must be above 0 and at most the {clients} there are",
            "Lower it.",
        )
    if not 0 < delta < 1 / clients:
        raise BadInput(
            f"delta={delta:g} for {clients} clients",
            "is so large that publishing one of them whole would keep the promise",
            f"Give less than {1 / clients:.2g}, or leave it out ({default_delta(clients):g}).",
        )


def refuse_with_promise(name: str, *, bounded: bool) -> None:
    """Refuse an aggregation rule that cannot carry a promise to clients, or would clip a second time.

    Args:
        name: of the rule.
        bounded: as the rule says of itself.

    Raises:
        BadInput: any rule but the mean.
    """
    if not bounded:
        raise BadInput(
            f"aggregation {name!r} with a promise to clients",
            "one client can move its outcome by more than clip norm / expected clients, whatever its own update is: "
            "which update counts depends on the others, so the noise would not cover it",
            "Give aggregation mean, or leave out epsilon.",
        )
    if name != "mean":
        raise BadInput(
            f"aggregation {name!r} with a promise to clients",
            "updates are clipped to the clip norm already when they arrive",
            "Give aggregation mean, and the norm as clip_norm.",
        )


def _noise(spec: ClientPrivacy, clients: int, expected: float, rounds: int, delta: float) -> float:
    assert spec.epsilon is not None, "else the noise is given"
    if spec.sampling == SHUFFLED:
        one = as_one(1.0, rounds=rounds, pass_length=rounds_of_pass(clients, int(expected)))
        return accounting.calibrate(one, steps=1, epsilon=spec.epsilon, delta=delta) / one.noise_multiplier
    step = Mechanism(noise_multiplier=1.0, rate=expected / clients)
    return accounting.calibrate(step, steps=rounds, epsilon=spec.epsilon, delta=delta)


def _check_enough(spec: ClientPrivacy, noise: float, clients: int, expected: float, rounds: int) -> None:
    """Refuse noise that, in each single number of the mean, is larger than the longest mean can be."""
    if noise <= expected:
        return
    rate, enough = expected / clients, clients
    while noise > enough * rate:
        enough = max(enough + 1, math.ceil(noise / rate))
        delta = default_delta(enough) if spec.delta is None else min(spec.delta, default_delta(enough))
        noise = _noise(replace(spec, delta=delta), enough, _whole(spec, enough * rate), rounds, delta)
    raise BadInput(
        f"epsilon={spec.epsilon:g} for {clients} clients, {expected:g} a round",
        f"needs noise that is larger in every single weight than all that a round can learn (at δ = "
        f"{default_delta(clients) if spec.delta is None else spec.delta:g})",
        f"Give about {enough} clients, {math.ceil(enough * rate)} a round, or a larger epsilon.",
    )


def _whole(spec: ClientPrivacy, expected: float) -> float:
    return float(math.ceil(expected)) if spec.sampling == SHUFFLED else expected
