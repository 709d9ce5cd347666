# SPDX-License-Identifier: Apache-2.0
"""The promise of one federation to each client: its key, its mechanism, its ledger, its check."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.federation import FederationRound
from reticent.core.promise_check import PromiseCheck
from reticent.federated.client_mechanism import ClientMechanism, calibrated
from reticent.federated.client_privacy import POISSON, ClientPrivacy
from reticent.federated.federation_check import FederationSelfCheck
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.round_ledger import FILE, RoundLedger, about
from reticent.federated.round_rule import Aggregate
from reticent.federated.server_state import ServerState
from reticent.federated.update import Update
from reticent.privacy import accounting
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.guarantee import DONE, PrivacyGuarantee
from reticent.train import begun
from reticent.train.private.step_log import open_key

CLIENTS_ARE_USERS = "each user of this run is a client with all its records"
"""The meaning of a promise per user here: users of the run folder are the clients of the federation."""
COUNTED = 12
"""Rounds of a federation whose ε is counted, each of which takes the accountant a good part of a second."""
UNCOVERED: dict[str, Any] = {
    "drawn": (),
    "answered": None,
    "median_norm": None,
    "largest_norm": None,
    "dropped": (),
    "seconds": 0.0,
}
"""Fields of a round that no noise covers, as they are published under a promise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FederationPromise:
    """A promise to each client, and what keeps it.

    Args:
        mechanism: draws, clips, noises and accounts.
        ledger: of rounds that were spent.
        check: of what each round does.
    """

    mechanism: ClientMechanism
    ledger: RoundLedger
    check: FederationSelfCheck

    def asked(self, round_: int, clients: Sequence[int]) -> None:
        """Check who is asked in a round, from 1."""
        self.check.drawn(round_ - 1, clients)

    def spend(self, round_: int, aggregate: Aggregate) -> None:
        """Check a round and put it on the ledger, on the disk, before its aggregate leaves."""
        assert aggregate.measured is not None
        assert aggregate.mean is not None
        measured = aggregate.measured
        self.check.closed(measured, aggregate.mean)
        self.ledger.spend(round_ - 1, aggregate.mean, clip=measured.clip, next_clip=measured.next_clip)

    def given(self, mean: Update) -> None:
        """Check what the server's step takes."""
        self.check.given(mean)

    def counted(self, rows: Sequence[FederationRound]) -> tuple[FederationRound, ...]:
        """Rows with the ε that was spent up to them: all, or about `COUNTED` of many, the last one always."""
        due = {max(1, round(len(rows) * part / COUNTED)) for part in range(1, COUNTED + 1)}
        return tuple(
            replace(row, epsilon=self.ledger.epsilon(row.number).epsilon) if row.number in due else row for row in rows
        )

    def published(self, rows: Sequence[FederationRound]) -> tuple[FederationRound, ...]:
        """Rows of rounds without what the promise does not cover."""
        covered = tuple(replace(row, **UNCOVERED) for row in rows)
        for row in covered:
            told = [item.name for item in fields(row) if getattr(row, item.name) not in (None, (), 0.0)]
            self.check.released(told)
        return covered

    def checked(self, state: ServerState, reloaded: Update) -> tuple[PromiseCheck, ...]:
        """The self-check after the last round.

        Args:
            state: after it.
            reloaded: the global arrays, as they were read again from the saved model.

        Raises:
            GuaranteeViolated: one failed.
        """
        self.check.saved(state.arrays, reloaded)
        epsilon = self.guarantee(state.round).epsilon
        items = self.check.finished(self.ledger, rounds=state.round, epsilon=epsilon)
        return tuple(PromiseCheck(name=item.name, bound=item.bound, passed=item.passed) for item in items)

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

    @contextmanager
    def on_record(self, out: Path, data: str, plan: str) -> Iterator[None]:
        """Keep on record beside ``out`` what is spent within, should no model come of it.

        Args:
            out: folder of the model.
            data: fingerprint of the data set.
            plan: see `plan`.
        """
        begun.begin(out, begun.StartedTraining(plan=plan, data=data, promise=self.guarantee(self.mechanism.rounds)))
        try:
            yield
        except GuaranteeViolated:
            begun.ended(out, plan=plan, steps=self.ledger.rounds, broken=True)
            raise
        except BadInput:
            if self.ledger.rounds == 0:
                begun.finished(out, plan=plan)
            raise


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
