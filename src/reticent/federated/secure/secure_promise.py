# SPDX-License-Identifier: Apache-2.0
"""The promise of one secure federation to each client, kept by the clients' own noise; and its parts put together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reticent.federated.client_promise import CLIENTS_ARE_USERS, ClientPromise
from reticent.federated.local_grid import Grid
from reticent.federated.release_check import broken
from reticent.federated.round_rule import Aggregate, Answers
from reticent.federated.secure.blamed_clients import FILE as BLAMED
from reticent.federated.secure.blamed_clients import BlamedClients
from reticent.federated.secure.ciphers import Ciphers
from reticent.federated.secure.client_memory import FILE as MEMORY
from reticent.federated.secure.client_memory import ClientMemory
from reticent.federated.secure.secure_check import SecureSelfCheck
from reticent.federated.secure.secure_clients import SimulatedClients
from reticent.federated.secure.secure_collector import CollectedSum, SecureCollector
from reticent.federated.secure.secure_ledger import FILE, SecureLedger
from reticent.federated.secure.secure_mechanism import SecureMechanism
from reticent.federated.secure.who_sees_what import Observer
from reticent.federated.server_state import ServerState
from reticent.federated.update import Update
from reticent.privacy.check import SelfCheckItem
from reticent.privacy.guarantee import DONE, PrivacyGuarantee
from reticent.privacy.recount import epsilon_again
from reticent.privacy.spec import ZERO_OUT


@dataclass(frozen=True, kw_only=True, eq=False)
class SecurePromise(ClientPromise):
    """A promise to each client that holds against the server too, and what keeps it.

    Args:
        mechanism: who takes part, by which plan and noise, and what it costs.
        ledger: of rounds that were spent.
        check: of what each round does.
    """

    mechanism: SecureMechanism
    ledger: SecureLedger
    check: SecureSelfCheck

    def spent(self, rounds: int) -> float:
        """See `ClientPromise.spent`; a round that was not opened counts too."""
        return self.mechanism.epsilon(min(rounds, self.ledger.rounds))

    def opening(self, round_: int, digest: str) -> None:
        """Put a round (from 1) on the ledger before its sum is opened."""
        self.ledger.spend(round_ - 1, digest)

    def closed(self, collected: CollectedSum) -> None:
        """Check a round before what it gave is used."""
        self.check.closed(collected.measured, collected.mean)

    def spend(self, round_: int, aggregate: Aggregate) -> None:
        """See `ClientPromise.spend`; it is on the ledger since before its sum was opened."""
        if self.ledger.rounds < round_:
            broken(
                "each round is spent once, before its sum is opened",
                f"round {round_ - 1} was run, and the ledger has {self.ledger.rounds}",
                "ε would leave rounds out.",
            )

    def finished(self, rounds: int) -> tuple[SelfCheckItem, ...]:
        """See `ClientPromise.finished`."""
        return self.check.finished(self.ledger, rounds=rounds, epsilon=self.mechanism.epsilon(rounds))

    def sentence(self, rounds: int) -> str:
        """See `ClientPromise.sentence`."""
        return self.mechanism.statement(rounds)

    def observers(self, rounds: int) -> tuple[Observer, ...]:
        """The table of who sees what, with the ε that holds against each."""
        return self.mechanism.observers(rounds)

    def guarantee(self, rounds: int) -> PrivacyGuarantee:
        """See `ClientPromise.guarantee`.

        The noise is that of the threshold over the longest rounded update. Discrete noise of several steps is a
        Gaussian's to many digits; ε is the Rényi bound, which counts what is left, and ``check`` one Gaussian's.
        """
        mechanism, times = self.mechanism, self.mechanism.appearances(rounds)
        epsilon, z = mechanism.epsilon(rounds), mechanism.effective_noise
        again = epsilon_again(z, [1], [1.0], steps=times, delta=mechanism.delta)
        return PrivacyGuarantee(
            epsilon=epsilon,
            check=epsilon if again is None else again,
            delta=mechanism.delta,
            unit="user",
            relation=ZERO_OUT,
            neighbouring=f"{DONE[ZERO_OUT]} one user",
            mechanism=f"{CLIENTS_ARE_USERS}, clients in turn, secure sums of clipped updates with discrete Gaussian "
            "noise of the clients",
            accountant="Rényi accountant",
            noise_multiplier=z,
            rate=1.0,
            steps=times,
            units=mechanism.clients,
        )

    def plan(self, key: str) -> str:
        """See `ClientPromise.plan`."""
        return hashlib.sha256(f"{key} {self.mechanism.on_record['key']}".encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class TurnsRule:
    """Clients in turn. Their updates never arrive in the open, so there is nothing to aggregate here."""

    mechanism: SecureMechanism

    def drawn(self, round_: int) -> list[int]:
        """See `RoundRule.drawn`."""
        return [int(client) for client in self.mechanism.sampled(round_ - 1)]

    def aggregate(self, round_: int, answers: Answers, like: Update, clip: float | None) -> Aggregate:
        """See `RoundRule.aggregate`.

        Raises:
            TypeError: always.
        """
        raise TypeError("updates of a secure federation came in the open")


def open_secure(mechanism: SecureMechanism, names: Sequence[str], state: ServerState, folder: Path) -> SecurePromise:
    """The promise from a state on; the ledger goes on where it was.

    Raises:
        BadInput: the ledger is of another federation or key.
    """
    check = SecureSelfCheck(mechanism, names, state.arrays, first=state.round)
    return SecurePromise(mechanism=mechanism, ledger=SecureLedger(folder / FILE, mechanism), check=check)


def secured(
    grid: Grid,
    promise: SecurePromise,
    folder: Path,
    *,
    ciphers: Ciphers,
    most_unopened: int,
    name_of: Callable[[int], str],
) -> SecureCollector:
    """The server's side, with simulated clients behind it that ``grid`` trains.

    Args:
        grid: reaches the clients' training.
        promise: of the federation.
        folder: of the clients' memory, and of the record of those that are blamed.
        ciphers: see `Ciphers`.
        most_unopened: rounds in a row that may change nothing.
        name_of: a name for a client, by its number, that tells nothing of it.
    """
    about = promise.mechanism.on_record
    clients = SimulatedClients(
        grid,
        promise.mechanism,
        promise.check.clients,
        ciphers=ciphers,
        memory=ClientMemory(folder / MEMORY, about=about),
        name_of=name_of,
        sight=promise.check,
    )
    return SecureCollector(
        clients,
        promise.mechanism,
        ciphers=ciphers,
        spending=promise,
        blamed=BlamedClients(folder / BLAMED, about=about),
        most_unopened=most_unopened,
        name_of=name_of,
    )
