# SPDX-License-Identifier: Apache-2.0
"""The promise to each client, as the loop of a federation and its page need it, however it is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol

from reticent.core.errors import BadInput
from reticent.core.federation import FederationRound
from reticent.core.promise_check import PromiseCheck
from reticent.core.stated_epsilon import StatedEpsilon
from reticent.federated.release_check import ReleaseCheck
from reticent.federated.round_rule import Aggregate
from reticent.federated.server_state import ServerState
from reticent.federated.update import Update
from reticent.privacy.check import GuaranteeViolated, SelfCheckItem
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.train import begun

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


class HasRounds(Protocol):
    """A plan of rounds, or a record of them."""

    @property
    def rounds(self) -> int:
        """How many there are."""
        ...


class RoundsPlan(HasRounds, Protocol):
    """A plan of rounds, with what its ε means."""

    @property
    def delta(self) -> float:
        """Chance that the promise may fail."""
        ...

    @property
    def relation(self) -> str:
        """The difference between neighbouring federations."""
        ...


class ClientPromise(ABC):
    """A promise to each client, and what keeps it: a mechanism, a ledger of rounds, and a check of what each does."""

    mechanism: RoundsPlan
    ledger: HasRounds
    check: ReleaseCheck

    @property
    def planned(self) -> int:
        """Rounds that are accounted for."""
        return self.mechanism.rounds

    @property
    def on_ledger(self) -> int:
        """Rounds that were spent."""
        return self.ledger.rounds

    def asked(self, round_: int, clients: Sequence[int]) -> None:
        """Check who is asked in a round, from 1."""
        self.check.drawn(round_ - 1, clients)

    @abstractmethod
    def spent(self, rounds: int) -> float:
        """ε after so many of the rounds on record."""

    @abstractmethod
    def spend(self, round_: int, aggregate: Aggregate) -> None:
        """Check a round, and see that it is on the ledger, before its aggregate leaves."""

    @abstractmethod
    def finished(self, rounds: int) -> tuple[SelfCheckItem, ...]:
        """The self-check after so many rounds."""

    @abstractmethod
    def sentence(self, rounds: int) -> str:
        """The promise after so many rounds, for people."""

    @abstractmethod
    def guarantee(self, rounds: int) -> PrivacyGuarantee:
        """The promise as every private model of this package carries it: per user, as each client is one here."""

    @abstractmethod
    def plan(self, key: str) -> str:
        """A name for this federation with its secret key, which no other has; it tells nothing of that key."""

    def stated(self, epsilon: float) -> StatedEpsilon:
        """An ε of this promise with all that gives it a meaning."""
        return StatedEpsilon(
            epsilon=epsilon, delta=self.mechanism.delta, unit="client", relation=self.mechanism.relation
        )

    def given(self, mean: Update) -> None:
        """Check what the server's step takes."""
        self.check.given(mean)

    def counted(self, rows: Sequence[FederationRound]) -> tuple[FederationRound, ...]:
        """Rows with the ε that was spent up to them: all, or about `COUNTED` of many, the last one always."""
        due = {max(1, round(len(rows) * part / COUNTED)) for part in range(1, COUNTED + 1)}
        return tuple(replace(row, epsilon=self.spent(row.number)) if row.number in due else row for row in rows)

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
        items = self.finished(state.round)
        return tuple(PromiseCheck(name=item.name, bound=item.bound, passed=item.passed) for item in items)

    @contextmanager
    def on_record(self, out: Path, data: str, plan: str) -> Iterator[None]:
        """Keep on record beside ``out`` what is spent within, should no model come of it.

        Args:
            out: folder of the model.
            data: fingerprint of the data set.
            plan: see `plan`.
        """
        begun.begin(out, begun.StartedTraining(plan=plan, data=data, promise=self.guarantee(self.planned)))
        try:
            yield
        except GuaranteeViolated:
            begun.ended(out, plan=plan, steps=self.on_ledger, broken=True)
            raise
        except BadInput:
            if self.on_ledger == 0:
                begun.finished(out, plan=plan)
            raise
