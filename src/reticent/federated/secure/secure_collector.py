# SPDX-License-Identifier: Apache-2.0
"""The server of secure rounds: from the clients it asks to the noised mean of their updates, of which it saw the sum.

Before the clients are asked to open the sum, the round is on the ledger, with a digest of what would be opened: a round
that is run again opens the same or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from reticent.core.errors import BadInput
from reticent.core.federation import DroppedMessage, FederationRound
from reticent.core.progress import console
from reticent.federated.inbox import NO_ANSWER, NOT_ASKED
from reticent.federated.secure.blamed_clients import BlamedClients
from reticent.federated.secure.ciphers import Ciphers, RefusedMessage
from reticent.federated.secure.messages import Message, from_bytes, to_bytes
from reticent.federated.secure.secure_clients import Reply, RoundOrder, SecureClients
from reticent.federated.secure.secure_mechanism import SecureMechanism
from reticent.federated.secure.secure_plan import SecurePlan
from reticent.federated.secure.secure_server import OpenedSum, SecureServer, UnopenedRound
from reticent.federated.secure.secure_spec import UNOPENED
from reticent.federated.secure.secure_update import mean_update
from reticent.federated.update import Update

LEFT_OUT = "left out since round {round}, when it sent {reason}"
SPOILED = "in a sum that is longer than its clients and their noise could make it"


@dataclass(frozen=True, kw_only=True, eq=False)
class SecureMeasurements:
    """Sight of one secure round at the server, for its self-check.

    Args:
        round: its number, from 0.
        plan: of the session.
        present: numbers of the clients whose vectors are in the sum; none where it was not opened.
        total: ``[dimension]`` int64, the opened sum in steps; None where it was not opened.
        denominator: what it was divided by.
        spoiled: the sum cannot be of clients that kept to the range, so it was not used.
    """

    round: int
    plan: SecurePlan
    present: tuple[int, ...]
    total: npt.NDArray[np.int64] | None
    denominator: float
    spoiled: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class CollectedSum:
    """The outcome of one secure round.

    Args:
        mean: noised; None where the sum was not opened, or spoiled.
        measured: for the self-check.
        dropped: clients whose messages did not count, named and with the reason.
    """

    mean: dict[str, torch.Tensor] | None
    measured: SecureMeasurements
    dropped: tuple[DroppedMessage, ...]


class SecureSpending(Protocol):
    """The ledger and the self-check of a secure federation."""

    def opening(self, round_: int, digest: str) -> None:
        """Put a round (from 1) and the digest of what would be opened on the disk; empty where nothing will be."""
        ...

    def closed(self, collected: CollectedSum) -> None:
        """Check a round before what it gave is used."""
        ...


class SecureCollector:
    """Runs the server's side.

    Args:
        clients: reaches them.
        mechanism: of the federation, as the server knows it.
        ciphers: see `Ciphers`.
        spending: the ledger and the self-check.
        blamed: who is asked no more.
        most_unopened: rounds in a row that may change nothing.
        name_of: a name for a client, by its number, that tells nothing of it.
    """

    def __init__(
        self,
        clients: SecureClients,
        mechanism: SecureMechanism,
        *,
        ciphers: Ciphers,
        spending: SecureSpending,
        blamed: BlamedClients,
        most_unopened: int,
        name_of: Callable[[int], str],
    ) -> None:
        self.clients, self.mechanism, self.ciphers = clients, mechanism, ciphers
        self.spending, self.blamed, self.most_unopened, self.name_of = spending, blamed, most_unopened, name_of

    def refuse_stuck(self, rows: Sequence[FederationRound]) -> None:
        """Refuse to go on where the last rounds all changed nothing: each costs ε, and clients that spoil rounds on
        purpose would go on until none is left.

        Args:
            rows: of the rounds so far.

        Raises:
            BadInput: it is so, with the clients that did not count in those rounds, and why.
        """
        last = rows[-self.most_unopened :]
        if len(last) < self.most_unopened or any(row.changed for row in last):
            return
        told = "; ".join(f"round {row.number}: " + _named(row.dropped) for row in last)
        raise BadInput(
            f"{len(last)} rounds in a row",
            f"changed nothing, so no further ε is spent. {told}",
            f"See to those clients, then give the same command with {UNOPENED} {2 * self.most_unopened} to go on where "
            "it is; or begin anew without them in another folder (--out). What was spent stays on record.",
        )

    def collect(self, round_: int, asked: Iterable[int], arrays: Update) -> CollectedSum:
        """Run a round.

        Args:
            round_: from 1.
            asked: numbers of the clients that take part.
            arrays: the global arrays.

        Raises:
            BadInput: the round was run before, and would now open another sum.
        """
        drops, left_out = _Drops(round_, self.name_of), self.blamed.before(round_)
        planned = tuple(asked)
        for client in planned:
            if client in left_out:
                drops.add(client, LEFT_OUT.format(round=left_out[client].round, reason=left_out[client].reason))
        taking = tuple(client for client in planned if client not in left_out)
        order = RoundOrder(round=round_, plan=self.mechanism.plan(round_ - 1), asked=taking, arrays=arrays)
        server = SecureServer(order.plan, self.ciphers, key=self.mechanism.server_key(round_ - 1))
        try:
            opened = self._opened(server, order, drops)
        except UnopenedRound as error:
            drops.unopened(str(error))
            if not server.digested:
                self.spending.opening(round_, "")
            self._blame(server, drops)
            drops.silent(set(order.asked) - server.left)
            return self._outcome(order, drops, present=(), total=None)
        self._blame(server, drops)
        drops.silent(set(order.asked) - set(opened.clients))
        return self._outcome(order, drops, present=opened.clients, total=opened.total)

    def _opened(self, server: SecureServer, order: RoundOrder, drops: _Drops) -> OpenedSum:
        """All parts of the protocol, one after the other."""
        self._take(server, self.clients.begin(order), order, drops)
        self._take(server, self._told(server.neighbourhoods()), order, drops)
        self._take(server, self._told(server.deliveries()), order, drops)
        self._take(server, self._told(server.accusations()), order, drops)
        self._take(server, self._told(server.partners()), order, drops)
        survivors = server.survivors()
        self.spending.opening(order.round, server.digest())
        self._take(server, self._told(survivors), order, drops)
        return server.opened()

    def _blame(self, server: SecureServer, drops: _Drops) -> None:
        """Put those on record who are known to have broken the protocol, and name those whom something is said of."""
        for client, reason, by in server.noted:
            drops.add(client, reason if by is None else reason.format(by=self.name_of(by)))
        for client, reason in sorted(server.guilty.items()):
            self.blamed.add(client, drops.round, reason)
            drops.once(client, reason)

    def _told(self, messages: Mapping[int, Message]) -> Iterable[Reply]:
        if not messages:
            return ()
        return self.clients.answer({number: to_bytes(message) for number, message in messages.items()})

    @staticmethod
    def _take(server: SecureServer, replies: Iterable[Reply], order: RoundOrder, drops: _Drops) -> None:
        for reply in replies:
            if reply.client not in order.asked:
                drops.add(reply.client, NOT_ASKED)
                continue
            try:
                server.receive(from_bytes(reply.data), sender=reply.client)
            except RefusedMessage as error:
                drops.add(reply.client, str(error))

    def _outcome(
        self, order: RoundOrder, drops: _Drops, *, present: tuple[int, ...], total: npt.NDArray[np.int64] | None
    ) -> CollectedSum:
        spoiled = total is not None and self._spoiled(total, len(present))
        if spoiled:
            for client in present:
                drops.add(client, SPOILED)
        denominator = float(self.mechanism.per_round)
        mean = None
        if total is not None and not spoiled:
            mean = mean_update(total, self.mechanism.noise, like=order.arrays, denominator=denominator)
        measured = SecureMeasurements(
            round=order.round - 1,
            plan=order.plan,
            present=present,
            total=total,
            denominator=denominator,
            spoiled=spoiled,
        )
        collected = CollectedSum(mean=mean, measured=measured, dropped=tuple(drops.rows))
        self.spending.closed(collected)
        return collected

    def _spoiled(self, total: npt.NDArray[np.int64], clients: int) -> bool:
        """Is the sum longer than that many clipped updates and their noise are, but for a chance of 2^-40?

        The length of d Gaussians is at most √(d·v)·(1 + √(2u/d)) but for a chance of e^-u; u is taken twice.
        """
        noise, size = self.mechanism.noise, len(total)
        slack = 1 + math.sqrt(4 * 40 * math.log(2) / size)
        longest = clients * noise.sensitivity + math.sqrt(size * clients * noise.variance) * slack
        return float(np.linalg.norm(total.astype(np.float64))) > longest


class _Drops:
    """Clients whose messages did not count, in the order in which that was seen."""

    def __init__(self, round_: int, name_of: Callable[[int], str]) -> None:
        self.round, self.name_of = round_, name_of
        self.rows: list[DroppedMessage] = []
        self._named: set[int] = set()

    def add(self, client: int, reason: str) -> None:
        """Name one."""
        self._named.add(client)
        name = self.name_of(client)
        self.rows.append(DroppedMessage(client=name, why=reason))
        console.print(f"round {self.round}: client {name} dropped: {reason}", style="yellow", highlight=False)

    def once(self, client: int, reason: str) -> None:
        """Name one, unless that was said of it."""
        if DroppedMessage(client=self.name_of(client), why=reason) not in self.rows:
            self.add(client, reason)

    def silent(self, clients: Iterable[int]) -> None:
        """Name those who are not in the sum, and of whom no message was refused."""
        for client in sorted(set(clients) - self._named):
            self.add(client, NO_ANSWER)

    def unopened(self, reason: str) -> None:
        """Say that the round changes nothing."""
        console.print(f"round {self.round} was not opened: {reason}", style="yellow", highlight=False)


def _named(dropped: Sequence[DroppedMessage]) -> str:
    """Clients and reasons, those with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for row in dropped:
        reasons.setdefault(row.why, []).append(row.client)
    return ", ".join(f"{' '.join(clients)} ({reason})" for reason, clients in reasons.items()) or "nobody was missing"
