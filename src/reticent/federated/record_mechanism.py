# SPDX-License-Identifier: Apache-2.0
"""The mechanism behind a promise to each record: local steps with per-record clipping and noise, inside each client.

Each client draws its records for a step by coins of its own and adds noise of its own, from a key that follows from the
federation's and its name. Whoever sees its updates knows when it took part, so nothing is gained by the draw of
clients: all rounds that it may be in are counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

from reticent.core.composed_epsilon import rounded_up
from reticent.core.errors import BadInput
from reticent.federated.client_statement import number_of_rounds
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.record_privacy import RecordPrivacy
from reticent.models.encode import EncodedRecord
from reticent.privacy import accounting
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.plan import IMPLIED_FOR, PrivacyPlan, default_delta
from reticent.privacy.sampling import PoissonSampler, TokenRange, Unit
from reticent.privacy.spec import PrivacySpec


@dataclass(frozen=True, kw_only=True)
class ClientPlan(PrivacyPlan):
    """A private training of one client over all rounds; what is counted once is counted for all clients of its size."""

    def spent(self, steps: int | None = None) -> PrivacyGuarantee:
        """See `PrivacyPlan.spent`; of one client's records."""
        number = self.steps if steps is None else steps
        return _spent(self.mechanism, number, self.delta, self.units)


@dataclass(frozen=True, kw_only=True)
class RecordMechanism:
    """A promise to each record with nothing left open.

    Args:
        noise_multiplier: standard deviation of the noise of a step over the clip norm.
        delta: of the promise.
        clip_norm: of a record's gradient.
        batch: records of a client in a step, on average; a client with fewer takes all.
        rounds: that a client can be in.
        local_steps: of a client in a round.
        sizes: records of each client, as they are trained on. They count as known.
        key: 32 secret bytes of the federation.

    Examples:
        >>> key = hashlib.sha256(b"use secrets.token_bytes(32) instead").digest()
        >>> mechanism = RecordMechanism(
        ...     noise_multiplier=1.0, delta=1e-5, clip_norm=1.0, batch=8, rounds=3, local_steps=2, sizes=(40, 4),
        ...     key=key,
        ... )
        >>> [mechanism.rate(client) for client in (0, 1)], mechanism.steps
        ([0.2, 1.0], 6)
    """

    noise_multiplier: float
    delta: float
    clip_norm: float
    batch: int
    rounds: int
    local_steps: int
    sizes: tuple[int, ...]
    key: bytes

    @property
    def steps(self) -> int:
        """Steps of a client that is in every round."""
        return self.rounds * self.local_steps

    def rate(self, client: int) -> float:
        """Chance of a record of that client to be in a step of it; without records, that of the first to come."""
        return min(1.0, self.batch / max(self.sizes[client], 1))

    def first_step(self, round_: int) -> int:
        """Number of the first step of a round (from 1), over all rounds: no two steps of a client share one."""
        return (round_ - 1) * self.local_steps

    def key_of(self, name: str) -> bytes:
        """The key of one client; that of another tells nothing of it."""
        return hashlib.sha256(b"records of a client\0" + self.key + name.encode("utf-8", "surrogatepass")).digest()

    def plan(self, client: int, name: str, rows: Sequence[EncodedRecord]) -> ClientPlan:
        """The private training of one client over all rounds.

        Args:
            client: its number.
            name: decides its key.
            rows: its records.
        """
        contents = hashlib.sha256(b"".join(row.token_id.tobytes() + row.trained.tobytes() for row in rows)).hexdigest()
        return ClientPlan(
            spec=PrivacySpec(noise_multiplier=self.noise_multiplier, delta=self.delta, clip_norm=self.clip_norm),
            sampler=PoissonSampler(
                units=len(rows),
                rate=self.rate(client),
                steps=self.steps,
                owned=1,
                rows_per_unit=1,
                draw=partial(_whole_record, tuple(len(row) for row in rows)),
                key=self.key_of(name),
            ),
            units=len(rows),
            has_users=False,
            data=contents,
        )

    @cached_property
    def worst(self) -> Mechanism:
        """A step of the client whose records are drawn most often: the least is hidden there."""
        rate = max(self.rate(client) for client in range(len(self.sizes)))
        return Mechanism(noise_multiplier=self.noise_multiplier, rate=rate)

    def guarantee(self) -> PrivacyGuarantee:
        """The promise to each record of any client, over all rounds. It holds for the model too, which is made of the
        updates."""
        single = _spent(self.worst, self.steps, self.delta, sum(self.sizes))
        implied = tuple(
            (
                records,
                accounting.implied_user_epsilon(self.worst, records=records, steps=self.steps, delta=self.delta),
            )
            for records in IMPLIED_FOR
        )
        return replace(single, implied=implied)

    def statement(self) -> str:
        """The promise in words; every number is rounded up."""
        promise = self.guarantee()
        owners = ", ".join(f"ε = {rounded_up(epsilon)} with {records}" for records, epsilon in promise.implied)
        of_steps = f"{self.steps} step{'' if self.steps == 1 else 's'}"
        of_rounds = number_of_rounds(self.rounds)
        return (
            f"ε = {rounded_up(promise.epsilon)} per record at δ = {self.delta:.2g}, against everyone who sees this "
            f"client's updates, the server too (add or remove one record; Poisson-sampled inside the client at a rate "
            f"of at most {promise.rate:.3g}, Gaussian noise σ = {self.noise_multiplier:.3g} in each of "
            f"{of_steps} in {of_rounds}, all of which a client may be in; counted by privacy loss "
            f"distributions). A user with many records pays more: {owners}. How many records a client has, and when it "
            "took part, is hidden from nobody. This line and one per client are two promises, never added up."
        )


def settled_records(privacy: RecordPrivacy, spec: FederationSpec, sizes: Sequence[int], key: bytes) -> RecordMechanism:
    """The mechanism for clients of these sizes.

    Args:
        privacy: what shall be promised.
        spec: of the federation.
        sizes: records of each client.
        key: 32 secret bytes.

    Raises:
        BadInput: a δ at which a record could be published whole, or a promise that cannot be accounted for.
    """
    largest = max(sizes, default=0)
    if not largest:
        raise BadInput("clients without records", "have nothing to protect", "Give records.")
    delta = default_delta(max(2, sum(sizes))) if privacy.record_delta is None else privacy.record_delta
    if delta * largest >= 1:
        raise BadInput(
            f"record_delta={delta:g} for a client of {largest} records",
            "is so large that publishing one of them whole would keep the promise",
            f"Give less than {1 / largest:.2g}, or leave it out.",
        )
    unknown = RecordMechanism(
        noise_multiplier=privacy.record_noise_multiplier or 1.0,
        delta=delta,
        clip_norm=privacy.record_clip_norm,
        batch=spec.local_batch_size,
        rounds=spec.rounds,
        local_steps=spec.local_steps,
        sizes=tuple(sizes),
        key=key,
    )
    if privacy.record_epsilon is None:
        return unknown
    noise = accounting.calibrate(unknown.worst, steps=unknown.steps, epsilon=privacy.record_epsilon, delta=delta)
    return replace(unknown, noise_multiplier=noise)


def _whole_record(lengths: tuple[int, ...], unit: int, step: int) -> Unit:
    return ((TokenRange(unit, 0, lengths[unit]),),)


@lru_cache(maxsize=4096)
def _spent(mechanism: Mechanism, steps: int, delta: float, units: int) -> PrivacyGuarantee:
    cost = accounting.spent(mechanism, steps=steps, delta=delta)
    return PrivacyGuarantee(
        epsilon=cost.epsilon,
        check=cost.check,
        delta=delta,
        unit="record",
        neighbouring="add or remove one record of one client",
        mechanism="Poisson-sampled Gaussian mechanism inside each client",
        accountant="PLD accountant",
        noise_multiplier=mechanism.noise_multiplier,
        rate=mechanism.rate,
        steps=steps,
        units=units,
        allowed=accounting.allowed(mechanism, steps=steps, delta=delta),
    )
