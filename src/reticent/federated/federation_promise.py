# SPDX-License-Identifier: Apache-2.0
"""The promise of one federation to each client: its key, its mechanism, its ledger, its check."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from reticent.federated.client_mechanism import ClientMechanism, calibrated
from reticent.federated.client_privacy import POISSON, ClientPrivacy
from reticent.federated.client_promise import CLIENTS_ARE_USERS, ClientPromise
from reticent.federated.federation_check import FederationSelfCheck
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.round_ledger import FILE, RoundLedger, about
from reticent.federated.round_rule import Aggregate
from reticent.federated.server_state import ServerState
from reticent.privacy import accounting
from reticent.privacy.check import SelfCheckItem
from reticent.privacy.guarantee import DONE, PrivacyGuarantee
from reticent.train.private.step_log import open_key


@dataclass(frozen=True, kw_only=True, eq=False)
class FederationPromise(ClientPromise):
    """A promise to each client, and what keeps it.

    Args:
        mechanism: draws, clips, noises and accounts.
        ledger: of rounds that were spent.
        check: of what each round does.
    """

    mechanism: ClientMechanism
    ledger: RoundLedger
    check: FederationSelfCheck

    def spent(self, rounds: int) -> float:
        """See `ClientPromise.spent`."""
        return self.ledger.epsilon(rounds).epsilon

    def spend(self, round_: int, aggregate: Aggregate) -> None:
        """Check a round and put it on the ledger, on the disk, before its aggregate leaves."""
        assert aggregate.measured is not None
        assert aggregate.mean is not None
        measured = aggregate.measured
        self.check.closed(measured, aggregate.mean)
        self.ledger.spend(round_ - 1, aggregate.mean, clip=measured.clip, next_clip=measured.next_clip)

    def finished(self, rounds: int) -> tuple[SelfCheckItem, ...]:
        """See `ClientPromise.finished`."""
        return self.check.finished(self.ledger, rounds=rounds, epsilon=self.guarantee(rounds).epsilon)

    def sentence(self, rounds: int) -> str:
        """The promise after so many rounds, for people."""
        return self.mechanism.statement(rounds)

    def guarantee(self, rounds: int) -> PrivacyGuarantee:
        """The promise as every private model of this package carries it: per user, as each client is one here."""
        mechanism, delta = self.mechanism, self.mechanism.delta
        step, times = mechanism.composed(rounds)
        cost = accounting.spent(step, steps=times, delta=delta)
        poisson = mechanism.sampling == POISSON
        sampled = "clients Poisson-sampled by round" if poisson else "clients in turn, noise of a tree over rounds"
        return PrivacyGuarantee(
            epsilon=cost.epsilon,
            check=cost.check,
            delta=delta,
            unit="user",
            relation=mechanism.relation,
            neighbouring=f"{DONE[mechanism.relation]} one user",
            mechanism=f"{CLIENTS_ARE_USERS}, {sampled}, Gaussian mechanism on the sum of clipped updates",
            accountant="PLD accountant",
            noise_multiplier=step.noise_multiplier,
            rate=step.rate,
            steps=times,
            units=mechanism.clients,
            allowed=accounting.allowed(step, steps=times, delta=delta),
        )

    def plan(self, key: str) -> str:
        """A name for this federation with its secret key, which no other has; it tells nothing of that key."""
        return hashlib.sha256(f"{key} {about(self.mechanism)['key']}".encode()).hexdigest()[:16]


def settled_mechanism(privacy: ClientPrivacy, spec: FederationSpec, clients: int, folder: Path) -> ClientMechanism:
    """The mechanism of the federation whose state lies in ``folder``, where its key is kept.

    Args:
        privacy: what shall be promised.
        spec: of the federation.
        clients: how many take part.
        folder: of the state.

    Raises:
        BadInput: see `calibrated`.
    """
    return calibrated(
        privacy, clients=clients, expected=spec.clients_per_round, rounds=spec.rounds, key=open_key(folder)
    )


def open_promise(mechanism: ClientMechanism, state: ServerState, folder: Path) -> FederationPromise:
    """The promise from a state on; the ledger goes on where it was.

    Raises:
        BadInput: the ledger is of another federation or key.
    """
    check = FederationSelfCheck(mechanism, state.arrays, first=state.round, clip=state.clip)
    return FederationPromise(mechanism=mechanism, ledger=RoundLedger(folder / FILE, mechanism), check=check)
