# SPDX-License-Identifier: Apache-2.0
"""SecureMechanism: who takes part in which secure round, by which plan and noise, and what that costs a client.

All clients take turns, each once in a pass, in groups whose sizes differ by one at most. So the most rounds that a
client sends an update in is known beforehand, and that is what the accountant takes: the server sees who takes part,
and no draw hides anybody from it. The noise that it takes is that of the threshold, whoever answers.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.composed_epsilon import rounded_up
from reticent.core.errors import BadInput
from reticent.federated.client_mechanism import check_population
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.client_statement import FEW, number_of_rounds, weak_delta
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.secure.distributed_epsilon import Observation, calibrated_noise, distributed_epsilon
from reticent.federated.secure.distributed_noise import DistributedNoise
from reticent.federated.secure.keyed_hash import keyed_hash
from reticent.federated.secure.secure_plan import SESSION_BYTES, SecurePlan
from reticent.federated.secure.secure_spec import SecureAggregation
from reticent.federated.secure.who_sees_what import Observer, SecureRun, who_sees_what
from reticent.federated.tree_noise import rounds_of_pass
from reticent.privacy.plan import default_delta
from reticent.privacy.sampling import check_key, words
from reticent.privacy.spec import ZERO_OUT


@dataclass(frozen=True, kw_only=True)
class SecureMechanism:
    """A secure federation that is settled. Made by `settled_secure`, or field by field.

    Args:
        clients: N, how many there are.
        rounds: how many are run.
        noise: of each round; its ``clients`` are the most that a round asks, its ``threshold`` the fewest it opens.
        delta: chance that the promise may fail, for each client.
        key: 32 secret bytes of the machine that simulates all; server and clients have others that follow from it.
        bits: of the modulus.
        degree: neighbours of each client; None for all of the round.
        colluders: clients of a round, for the table.

    Raises:
        BadInput: a group of clients below the threshold, a modulus that a sum could overflow, a plan that no client
            would take part in, or a δ at which a client could be published.

    Examples:
        >>> noise = DistributedNoise.fitted(clip_norm=1, dimension=10, noise_multiplier=2, threshold=4, clients=5)
        >>> key = hashlib.sha256(b"use secrets.token_bytes(32) instead").digest()
        >>> mechanism = SecureMechanism(clients=14, rounds=4, noise=noise, delta=1e-3, key=key)
        >>> [len(mechanism.sampled(number)) for number in range(3)], mechanism.appearances(4)
        ([5, 5, 4], 2)
    """

    clients: int
    rounds: int
    noise: DistributedNoise
    delta: float
    key: bytes = field(repr=False)
    bits: int = 32
    degree: int | None = None
    colluders: int = 0

    def __post_init__(self) -> None:
        check_population(self.clients, self.per_round, self.delta)
        check_key(self.key)
        smallest = self.clients // self.pass_length
        if smallest < self.noise.threshold:
            raise BadInput(
                f"secure_threshold={self.noise.threshold} with {self.clients} clients, {self.per_round} a round",
                f"the {self.pass_length} groups that take turns have {smallest} clients or one more, so some rounds "
                "could never be opened",
                f"Give a threshold of at most {smallest}, or other --clients_per_round.",
            )
        self.noise.check_bits(self.bits, self.rounds)
        plan = self.plan(0)
        pieces = min(plan.pieces_of(plan.neighbours_of(size)) for size in {smallest, self.per_round})
        if self.colluders >= min(pieces, self.noise.threshold):
            raise BadInput(
                f"secure_colluders={self.colluders}",
                f"{pieces} neighbours of a client can open its vector together, and {self.noise.threshold} clients' "
                "noise is all that is counted on, so there is no promise against so many",
                f"Give at most {min(pieces, self.noise.threshold) - 1}.",
            )

    @property
    def per_round(self) -> int:
        """The most clients that a round asks, and what its sum is divided by."""
        return self.noise.clients

    @property
    def clip_norm(self) -> float:
        """C, of all rounds."""
        return self.noise.lattice.clip_norm

    @property
    def relation(self) -> str:
        """Neighbouring federations differ in what one client sends, not in who is there."""
        return ZERO_OUT

    @property
    def pass_length(self) -> int:
        """Rounds until all have had their turn."""
        return rounds_of_pass(self.clients, self.per_round)

    def appearances(self, rounds: int) -> int:
        """The most of the first ``rounds`` rounds that a client can be in."""
        return -(-rounds // self.pass_length)

    def sampled(self, round_number: int) -> npt.NDArray[np.int64]:
        """Numbers of the clients of a round (from 0), rising.

        Raises:
            BadInput: a round that is not accounted for.
        """
        if not 0 <= round_number < self.rounds:
            raise BadInput(
                f"round {round_number}", f"must be in 0 … {self.rounds - 1}", "Plan for all rounds that are run."
            )
        passed, place = divmod(round_number, self.pass_length)
        order = np.argsort(words(self.key, "client order", passed, count=self.clients), kind="stable")
        return np.sort(np.array_split(order, self.pass_length)[place]).astype(np.int64)

    def plan(self, round_number: int) -> SecurePlan:
        """The session of a round, from 0: the same one where it is run again, and no other round's."""
        return SecurePlan(
            session=keyed_hash(self.key, "secure session", round_number, size=SESSION_BYTES),
            dimension=self.noise.lattice.dimension,
            clients=self.per_round,
            threshold=self.noise.threshold,
            degree=self.degree,
            bits=self.bits,
        )

    def server_key(self, round_number: int) -> bytes:
        """Secret of the server in a round, from 0."""
        return keyed_hash(self.key, "secure server", round_number)

    def client_key(self, name: str) -> bytes:
        """Secret of one client, which that of another tells nothing of."""
        return keyed_hash(self.key, "secure client", name.encode("utf-8", "surrogatepass"))

    def epsilon(self, rounds: int | None = None) -> float:
        """ε of each client against the server and all that see less, after so many rounds; after all where left out."""
        run = self.rounds if rounds is None else rounds
        observed = Observation(rounds=self.appearances(run), rate=1.0, shares=self.noise.threshold)
        return distributed_epsilon(self.noise, observed, delta=self.delta)

    @property
    def effective_noise(self) -> float:
        """Standard deviation of the noise of the threshold over the most that a rounded update can add."""
        return math.sqrt(self.noise.threshold * self.noise.variance) / self.noise.sensitivity

    def observers(self, rounds: int) -> tuple[Observer, ...]:
        """The table of who sees what after so many rounds, with the ε that holds against each."""
        run = SecureRun(
            plan=self.plan(0),
            noise=self.noise,
            rounds=rounds,
            rate=1.0,
            appearances=self.appearances(rounds),
            delta=self.delta,
            topped_up=False,
        )
        return who_sees_what(run, colluders=self.colluders)

    def statement(self, rounds: int | None = None) -> str:
        """The promise in a sentence that never says ε without unit, δ, relation, N, threshold and against whom."""
        run = self.rounds if rounds is None else rounds
        noise, most = self.noise, self.appearances(run)
        text = (
            f"ε = {rounded_up(self.epsilon(run))} per client at δ = {self.delta:.2g}, against the server too (zero out "
            f"one of N = {self.clients} clients; the server opens sums of at least {noise.threshold} of up to "
            f"{noise.clients} masked updates, and each client adds a share of discrete Gaussian noise, so that any "
            f"{noise.threshold} carry z = {noise.noise_multiplier:.3g}; {number_of_rounds(run)}, of which a client is "
            f"in at most {most}, and nothing is gained by who is drawn; counted by Rényi divergences). It rests on a "
            "server that keeps to the protocol and on clients that add their noise; the table says what is left "
            "against those who collude."
        )
        return f"{weak_delta(self.delta, self.clients)} {text}" if self.clients < FEW else text

    @property
    def on_record(self) -> dict[str, Any]:
        """For the first line of ledgers; of the key only whether it is the same."""
        told = {name: value for name, value in asdict(self).items() if name != "key"}
        key = hashlib.sha256(b"secure rounds" + self.key).hexdigest()[:16]
        return {"unit": "client", "relation": self.relation, **told, "key": key}


def settled_secure(
    secure: SecureAggregation, privacy: ClientPrivacy, spec: FederationSpec, *, clients: int, dimension: int, key: bytes
) -> SecureMechanism:
    """The mechanism that keeps the promise of ``privacy``, with the least noise to three digits.

    Args:
        secure: settings of the protocol.
        privacy: what each client is promised.
        spec: of the federation.
        clients: how many take part.
        dimension: numbers in an update.
        key: 32 secret bytes.

    Raises:
        BadInput: see `SecureMechanism`; or too few clients a round for the ε asked for, with the number that would do.
    """
    per_round, delta = spec.clients_per_round, privacy.delta or default_delta(clients)
    check_population(clients, per_round, delta)
    noise = DistributedNoise.fitted(
        clip_norm=privacy.clip_norm,
        dimension=dimension,
        noise_multiplier=privacy.noise_multiplier or 1.0,
        threshold=secure.threshold_of(per_round),
        clients=per_round,
    )
    if privacy.epsilon is not None:
        appearances = -(-spec.rounds // rounds_of_pass(clients, per_round))
        observed = Observation(rounds=appearances, rate=1.0, shares=noise.threshold)
        noise = calibrated_noise(noise, observed, epsilon=privacy.epsilon, delta=delta)
        _check_enough(noise, privacy.epsilon)
    return SecureMechanism(
        clients=clients,
        rounds=spec.rounds,
        noise=noise,
        delta=delta,
        key=key,
        bits=secure.secure_bits,
        degree=secure.secure_neighbours,
        colluders=secure.secure_colluders,
    )


def _check_enough(noise: DistributedNoise, epsilon: float) -> None:
    """Refuse noise that, in each single number of the mean, is larger than the longest mean can be."""
    size = noise.noise_multiplier * math.sqrt(noise.clients / noise.threshold)
    if size > noise.clients:
        raise BadInput(
            f"epsilon={epsilon:g} with {noise.clients} clients a round",
            "needs noise that is larger in every single weight than all that a round can learn",
            f"Give about {math.ceil(size)} clients a round, or a larger epsilon.",
        )
