# SPDX-License-Identifier: Apache-2.0
"""MadeUpFederation: a small private federation whose clients send random updates, run with every check.

It has no model. Each step of a round is a method of its own, so that a test can put a fault into one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from reticent.federated.client_mechanism import ClientMechanism
from reticent.federated.federation_check import FederationSelfCheck
from reticent.federated.private_round import ClosedRound, PrivateRound
from reticent.federated.round_ledger import FILE, RoundLedger
from reticent.federated.server_optimizer import ServerOptimizer
from reticent.federated.update import Update
from reticent.privacy.check import SelfCheckItem

KEY, OTHER_KEY = (hashlib.sha256(name).digest() for name in (b"a key for federations", b"another"))
LIKE = {"b": torch.zeros(7), "a": torch.zeros(40, 10)}
"""The global arrays."""


def made_up_mechanism(**changes: Any) -> ClientMechanism:
    """Sixty clients, fifteen of them a round, six rounds; fields of the mechanism may be others."""
    settings = {"clients": 60, "expected": 15, "rounds": 6, "noise_multiplier": 1.0, "clip_norm": 0.5, "delta": 1e-3}
    return ClientMechanism(**{**settings, "key": KEY, **changes})


def made_up_update(client: int, number: int, scale: float | None = None) -> dict[str, torch.Tensor]:
    """The update of a client in a round: every third one an update that is shorter than the clip norm."""
    random = torch.Generator().manual_seed(1000 * client + number)
    size = (0.01 if client % 3 == 0 else 3.0) if scale is None else scale
    return {name: size * torch.randn(array.shape, generator=random) for name, array in LIKE.items()}


class MadeUpFederation:
    """The server's loop in its plainest form.

    Args:
        folder: of the ledger, which an earlier one may have begun.
        plan: what is promised.
        server: the server's step.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checks = MadeUpFederation(Path(folder)).run(2).finish()
        >>> [check.name for check in checks if not check.passed]
        []
    """

    def __init__(
        self, folder: Path, plan: ClientMechanism | None = None, *, server: ServerOptimizer | None = None
    ) -> None:
        self.plan = plan or made_up_mechanism()
        self.ledger = RoundLedger(folder / FILE, self.plan)
        self.server = server or ServerOptimizer()
        self.arrays = {name: array.clone() for name, array in LIKE.items()}
        self.moments: dict[str, torch.Tensor] = {}
        self.clip, self.next = self.ledger.clip, self.ledger.rounds
        self.check = FederationSelfCheck(self.plan, self.arrays, first=self.next, clip=self.clip)

    def run(self, rounds: int | None = None) -> MadeUpFederation:
        """All rounds up to that number; all that are planned where it is left out."""
        while self.next < (self.plan.rounds if rounds is None else rounds):
            self.round()
        return self

    def round(self) -> ClosedRound:
        """The next round."""
        number = self.next
        self.check.drawn(number, self.drawn(number))
        closed = self.collect(number)
        self.check.closed(closed.measured, closed.mean)
        self.spend(number, closed)
        mean = self.given(closed.mean)
        self.check.given(mean)
        self.check.released(self.row(number, closed))
        self.moments, change = self.server(self.moments, mean)
        self.arrays = {name: array + change[name] for name, array in self.arrays.items()}
        self.clip, self.next = closed.next_clip, number + 1
        return closed

    def finish(self) -> tuple[SelfCheckItem, ...]:
        """The checks at the end."""
        self.check.saved(self.arrays, self.reread())
        return self.check.finished(self.ledger, rounds=self.next, epsilon=self.stated())

    def drawn(self, number: int) -> list[int]:
        """Numbers of the clients that take part."""
        return [int(client) for client in self.plan.sampled(number)]

    def sent(self, client: int, number: int) -> Update:
        """The update that a client sends."""
        return made_up_update(client, number)

    def open(self, number: int) -> PrivateRound:
        """The round, before any update."""
        return self.plan.open_round(number, self.clip, self.arrays)

    def collect(self, number: int) -> ClosedRound:
        """The round with all updates."""
        opened = self.open(number)
        for client in self.drawn(number):
            opened.add(self.sent(client, number), client=client)
        return opened.close()

    def spend(self, number: int, closed: ClosedRound) -> None:
        """Put the round on record."""
        self.ledger.spend(number, closed.mean, clip=self.clip, next_clip=closed.next_clip)

    def given(self, mean: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The aggregate that the server's step takes."""
        return mean

    def row(self, number: int, closed: ClosedRound) -> Collection[str]:
        """Fields that are logged."""
        return ("number", "clip")

    def reread(self) -> Update:
        """The arrays, as they are read from where they were saved."""
        return self.arrays

    def stated(self) -> float:
        """ε, as it is stated."""
        return self.ledger.epsilon().epsilon
