# SPDX-License-Identifier: Apache-2.0
"""The ledger of a promise to records: the steps of each client, on the disk before its update leaves it.

A round that is run again after a kill must give the same update: another one under the same noise would, by the
difference of the two, show gradients without any.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.line_ledger import append_line, begin_or_go_on
from reticent.federated.record_mechanism import RecordMechanism
from reticent.federated.round_ledger import digest
from reticent.federated.update import Update
from reticent.privacy import accounting
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.mechanism import Mechanism

FILE = "record_ledger.jsonl"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class RecordsSpent:
    """One client's steps in one round.

    Args:
        client: hash of its name.
        round: from 1.
        first_step, steps: of the client's plan.
        noise_multiplier, rate: of each.
        digest: SHA-256 of the update.
    """

    client: str
    round: int
    first_step: int
    steps: int
    noise_multiplier: float
    rate: float
    digest: str


class RecordLedger:
    """The steps that were spent, client by client.

    Args:
        path: of the file; what an earlier process wrote is taken over.
        mechanism: of the promise.

    Raises:
        BadInput: the file is of another federation or key, or is no ledger.
    """

    def __init__(self, path: Path, mechanism: RecordMechanism) -> None:
        self.path, self.mechanism = path, mechanism
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = begin_or_go_on(path, self._about(), RecordsSpent, name="ledger of records", of="federation")
        self.spent = {(entry.client, entry.round): entry for entry in entries}
        if len(self.spent) < len(entries):
            raise BadInput(str(path), "has a client's round twice", "Start over in another folder.")

    def spend(self, client: int, name: str, round_: int, update: Update) -> None:
        """Put a client's round on record, on the disk, before its update leaves. A round counts once.

        Args:
            client: its number.
            name: hash of it.
            round_: from 1.
            update: that will leave.

        Raises:
            BadInput: the round was spent before and gave another update.
        """
        entry = RecordsSpent(
            client=name,
            round=round_,
            first_step=self.mechanism.first_step(round_),
            steps=self.mechanism.local_steps,
            noise_multiplier=self.mechanism.noise_multiplier,
            rate=self.mechanism.rate(client),
            digest=digest(update, 0.0),
        )
        before = self.spent.get((name, round_))
        if before is not None and before != entry:
            raise BadInput(
                str(self.path.parent),
                f"round {round_} was run before, and a client now gave something else under the same noise: the "
                "difference of the two would show its gradients without any, so nothing of it is used",
                "Run it again as it was begun: the same data, device, number of threads and versions. Where that "
                "cannot be, start over in another folder (--out); what was spent here stays on record.",
            )
        if before is None:
            append_line(self.path, asdict(entry))
            self.spent[(name, round_)] = entry

    def epsilon(self, name: str) -> float:
        """ε of each record of a client, of the steps on record; 0 for a client that was in no round."""
        entries = [entry for (client, _), entry in self.spent.items() if client == name]
        if not entries:
            return 0.0
        step = Mechanism(noise_multiplier=entries[0].noise_multiplier, rate=entries[0].rate)
        return accounting.spent(step, steps=sum(e.steps for e in entries), delta=self.mechanism.delta).epsilon

    def check(self, rounds: int) -> None:
        """No step of a client was taken twice, and none beyond what is promised.

        Raises:
            GuaranteeViolated: one was.
        """
        first_steps: dict[str, list[int]] = {}
        for (name, _), entry in self.spent.items():
            first_steps.setdefault(name, []).append(entry.first_step)
        for (name, _), entry in self.spent.items():
            firsts = first_steps[name]
            if firsts.count(entry.first_step) > 1 or not 1 <= entry.round <= rounds <= self.mechanism.rounds:
                raise GuaranteeViolated(
                    "each step of a client is taken once",
                    f"the ledger has {len(firsts)} rounds of a client, and {rounds} rounds were run",
                    "Noise that is used twice hides nothing.",
                )

    def _about(self) -> dict[str, Any]:
        told = {name: value for name, value in asdict(self.mechanism).items() if name != "key"}
        key = hashlib.sha256(b"record ledger" + self.mechanism.key).hexdigest()[:16]
        return {"format": FORMAT, "unit": "record", **told, "key": key}
