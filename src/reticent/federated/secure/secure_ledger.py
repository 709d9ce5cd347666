# SPDX-License-Identifier: Apache-2.0
"""SecureLedger: the secure rounds that were spent, on the server's disk before their sums are opened.

One line of JSON a round, behind a line that says of which federation they are. Each has a digest of who is in the sum
and of the sum under its masks: a round that is run again after a crash opens the same sum or none, as the difference of
two sums could be a single client's update.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.line_ledger import append_line, begin_or_go_on, refuse_gaps
from reticent.federated.release_check import broken
from reticent.federated.secure.secure_mechanism import SecureMechanism

FORMAT = 1
FILE = "secure_rounds.jsonl"


@dataclass(frozen=True, kw_only=True)
class SecureRoundSpent:
    """One round that was spent.

    Args:
        round: its number, from 0.
        threshold: the fewest clients whose sum is opened.
        variance: of each client's share of noise, in squared steps.
        levels: steps of the clip norm.
        digest: SHA-256 of what is opened, in hex; empty where nothing is.
    """

    round: int
    threshold: int
    variance: int
    levels: int
    digest: str


class SecureLedger:
    """The rounds of one secure federation that were spent. Opens the file of an earlier process, and goes on in it.

    Args:
        path: of the file; its folder exists.
        mechanism: that the rounds are of.

    Raises:
        BadInput: the file is broken, or of another federation or key.
    """

    def __init__(self, path: Path, mechanism: SecureMechanism) -> None:
        self.path, self.mechanism = path, mechanism
        header = {"format": FORMAT, **mechanism.on_record}
        self.spent = begin_or_go_on(path, header, SecureRoundSpent, name="ledger of secure rounds", of="federation")
        refuse_gaps(path, [entry.round for entry in self.spent])

    @property
    def rounds(self) -> int:
        """Number of those that were spent."""
        return len(self.spent)

    def spend(self, round_number: int, digest: str) -> None:
        """Put a round on record, on the disk; only then may its sum be opened.

        Args:
            round_number: from 0; that after the last, or one that is run again.
            digest: of what will be opened; empty where nothing will.

        Raises:
            GuaranteeViolated: a round before it is missing.
            BadInput: it was spent before, and would open something else.
        """
        noise = self.mechanism.noise
        entry = SecureRoundSpent(
            round=round_number,
            threshold=noise.threshold,
            variance=noise.variance,
            levels=noise.lattice.levels,
            digest=digest,
        )
        if round_number > self.rounds:
            broken(
                "each round is spent once, before its sum is opened",
                f"round {round_number} was run, and the ledger has {self.rounds}",
                "ε would leave rounds out.",
            )
        if round_number == self.rounds:
            append_line(self.path, asdict(entry))
            self.spent.append(entry)
        elif entry != self.spent[round_number]:
            raise BadInput(
                str(self.path.parent),
                f"round {round_number + 1} was spent before, and would now open another sum: the difference of the two "
                "could be one client's update, so it is not opened",
                "Run it again as it was begun: the same data, device, number of threads and versions, by which clients "
                "train to the same bits. Where they cannot, start over in another folder (--out); what was spent here "
                "stays on record.",
            )
