# SPDX-License-Identifier: Apache-2.0
"""All clients in one process, as `LocalGrid`, each under a promise to its records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from reticent.core.errors import BadInput
from reticent.core.promise_check import PromiseCheck
from reticent.federated.client_training import LocalTraining
from reticent.federated.exchange.arrays import put_into
from reticent.federated.local_grid import Message
from reticent.federated.private_steps import PrivateClient, PrivateSteps
from reticent.federated.record_ledger import FILE, RecordLedger
from reticent.federated.record_mechanism import RecordMechanism
from reticent.federated.update import Update
from reticent.models.encode import EncodedRecord
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.self_check import SelfCheck
from reticent.train import begun

NOTHING = EncodedRecord(token_id=np.zeros(2, dtype=np.int32), trained=np.zeros(2, dtype=bool))
"""A record that trains nothing. A client that has none left takes the noised steps of one with a single record, so that
neither is told from the other."""


class PrivateGrid:
    """Clients whose updates carry the noise that hides each of their records.

    Args:
        model: the base with the tuning method on it.
        names: of the clients.
        rows: of each client, encoded, each once; one without sends noise alone.
        how: they train.
        mechanism: of the promise.
        folder: of the ledger.
        name_of: a name for a client that tells nothing of it.
    """

    def __init__(
        self,
        model: Any,
        names: Sequence[str],
        rows: Sequence[Sequence[EncodedRecord]],
        how: LocalTraining,
        *,
        mechanism: RecordMechanism,
        folder: Path,
        name_of: Callable[[str], str],
    ) -> None:
        self.model, self.names, self.rows, self.mechanism, self.name_of = model, names, rows, mechanism, name_of
        self.steps = PrivateSteps(model, how, clip_norm=mechanism.clip_norm)
        self.ledger = RecordLedger(folder / FILE, mechanism)
        self.clients: dict[int, PrivateClient] = {}

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        """See `Grid.ask`. Each update is on the ledger before it leaves."""
        for number in clients:
            put_into(self.model, arrays)
            update = self.steps.train(self._client(number), self.mechanism.first_step(round_))
            self.ledger.spend(number, self.name_of(self.names[number]), round_, update)
            yield Message(client=number, round=round_, update=update)

    def plan(self, key: str) -> str:
        """A name for this federation with its secret key, which no other has; it tells nothing of that key."""
        return hashlib.sha256(f"{key} records".encode() + self.mechanism.key_of("")).hexdigest()[:16]

    @contextmanager
    def on_record(self, out: Path, data: str, plan: str) -> Iterator[None]:
        """Keep on record beside ``out`` what is spent within, should no model come of it.

        Args:
            out: folder of the model.
            data: fingerprint of the data set.
            plan: see `plan`.
        """
        begun.begin(out, begun.StartedTraining(plan=plan, data=data, promise=self.mechanism.guarantee()))
        try:
            yield
        except GuaranteeViolated:
            begun.ended(out, plan=plan, steps=self.mechanism.steps, broken=True)
            raise
        except BadInput:
            if not self.ledger.spent:
                begun.finished(out, plan=plan)
            raise

    def checked(self, rounds: int) -> tuple[PromiseCheck, ...]:
        """The self-check of all clients that trained in this process, and of the ledger.

        Args:
            rounds: that were run.

        Raises:
            GuaranteeViolated: one failed.
        """
        self.ledger.check(rounds)
        items = [client.check.finished(client.plan.spent()) for client in self.clients.values()]
        by_name = {item.name: item for of_client in items for item in of_client if item.passed is not None}
        return (
            *(
                PromiseCheck(name=f"inside clients: {name}", bound=item.bound, passed=item.passed)
                for name, item in by_name.items()
            ),
            PromiseCheck(
                name="inside clients: steps on the ledgers",
                bound=f"each once, {self.mechanism.steps} of a client at most",
                passed=True,
            ),
        )

    def _client(self, number: int) -> PrivateClient:
        if number not in self.clients:
            rows = self.rows[number] or [NOTHING]
            plan = self.mechanism.plan(number, self.names[number], rows)
            self.clients[number] = PrivateClient(rows=rows, plan=plan, check=SelfCheck(plan, self.model))
        return self.clients[number]
