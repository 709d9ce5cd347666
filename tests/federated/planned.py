# SPDX-License-Identifier: Apache-2.0
"""A small private federation whose clients send made-up updates, run with every check, for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from reticent.federated.client_mechanism import ClientMechanism
from reticent.federated.federation_check import FederationSelfCheck
from reticent.federated.round_ledger import FILE, RoundLedger
from reticent.federated.server_optimizer import ServerOptimizer

KEY, OTHER = (hashlib.sha256(name).digest() for name in (b"a key for federations", b"another"))
LIKE = {"b": torch.zeros(7), "a": torch.zeros(40, 10)}


def mechanism(**changes):
    settings = {"clients": 60, "expected": 15, "rounds": 6, "noise_multiplier": 1.0, "clip_norm": 0.5, "delta": 1e-3}
    return ClientMechanism(**{**settings, "key": KEY, **changes})


def update_of(client, number, scale=None):
    """Made up; every third client sends one that is shorter than the clip norm."""
    random = torch.Generator().manual_seed(1000 * client + number)
    scale = (0.01 if client % 3 == 0 else 3.0) if scale is None else scale
    return {name: scale * torch.randn(array.shape, generator=random) for name, array in LIKE.items()}


class Federation:
    """The server's loop in its plainest form. Faults are planted into its methods, or below them."""

    def __init__(self, folder: Path, plan: ClientMechanism | None = None, *, server: ServerOptimizer | None = None):
        self.plan = plan or mechanism()
        self.ledger = RoundLedger(folder / FILE, self.plan)
        self.server = server or ServerOptimizer()
        self.arrays, self.moments = {name: array.clone() for name, array in LIKE.items()}, {}
        self.clip, self.next = self.ledger.clip, self.ledger.rounds
        self.check = FederationSelfCheck(self.plan, self.arrays, first=self.next, clip=self.clip)

    def drawn(self, number):
        return self.plan.sampled(number).tolist()

    def sent(self, client, number):
        return update_of(client, number)

    def noise_round(self, number):
        return number

    def given(self, mean):
        return mean

    def open(self, number):
        return self.plan.open_round(number, self.clip, self.arrays)

    def collect(self, number):
        opened = self.open(number)
        for client in self.drawn(number):
            opened.add(self.sent(client, number), client=client)
        return opened.close()

    def spend(self, number, closed):
        self.ledger.spend(number, closed.mean, clip=self.clip, next_clip=closed.next_clip)

    def row(self, number, closed):
        return {"number": number, "clip": self.clip}

    def round(self):
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

    def stated(self):
        return self.ledger.epsilon().epsilon

    def reread(self):
        return self.arrays

    def run(self, rounds=None):
        while self.next < (self.plan.rounds if rounds is None else rounds):
            self.round()
        return self

    def finish(self):
        self.check.saved(self.arrays, self.reread())
        return self.check.finished(self.ledger, rounds=self.next, epsilon=self.stated())
