# SPDX-License-Identifier: Apache-2.0
"""RoundLedger: the rounds of a private federation that were spent, on the disk before an aggregate leaves the process.

One line of JSON a round, behind a line that says of which mechanism they are. A line is written and flushed to the disk
before the aggregate may be used, so a crash can leave a round that was spent and not used, never one that was used and
not spent. A line without its end was being written when the process died; nothing had left by then, and it is dropped.

A round that is run again after a crash has the same clients and the same noise. If it had other updates, the difference
of the two aggregates would show them without any noise: each line holds a digest of what the round gave, and another
outcome of a round that is already there is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.line_ledger import append_line, begin_or_go_on, refuse_gaps
from reticent.federated.client_mechanism import ClientMechanism
from reticent.federated.update import Update
from reticent.privacy import accounting, composition
from reticent.privacy.accounting import EpsilonSpent
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.spec import ADD_OR_REMOVE

FORMAT = 1
FILE = "rounds.jsonl"


@dataclass(frozen=True, kw_only=True)
class RoundSpent:
    """One round that was spent.

    Args:
        round: its number, from 0.
        noise_multiplier: z of its one accounted Gaussian.
        rate: q.
        clip: the norm that updates were clipped to.
        next_clip: that of the next round.
        digest: SHA-256 of what the round gave, in hex.
    """

    round: int
    noise_multiplier: float
    rate: float
    clip: float
    next_clip: float
    digest: str


class RoundLedger:
    """The rounds of one mechanism that were spent. Opens the file of an earlier process, and goes on in it.

    Args:
        path: of the file; its folder exists.
        mechanism: that the rounds are of.

    Raises:
        BadInput: the file is broken, or of another mechanism or key.
    """

    def __init__(self, path: str | Path, mechanism: ClientMechanism) -> None:
        self.path, self.mechanism = Path(path), mechanism
        self.spent = begin_or_go_on(self.path, about(mechanism), RoundSpent, name="ledger of rounds", of="federation")
        refuse_gaps(self.path, [entry.round for entry in self.spent])

    @property
    def rounds(self) -> int:
        """Number of those that were spent."""
        return len(self.spent)

    @property
    def clip(self) -> float:
        """The clip norm of the round after the last one that was spent."""
        return self.spent[-1].next_clip if self.spent else self.mechanism.clip_norm

    def spend(self, round_number: int, mean: Update, *, clip: float, next_clip: float) -> RoundSpent:
        """Put a round on record; it is on the disk when this returns, and only then may its aggregate be used.

        Args:
            round_number: from 0; that after the last, or one that is run again.
            mean: what it gave.
            clip: the norm that its updates were clipped to.
            next_clip: that of the next round.

        Raises:
            GuaranteeViolated: a round before it is missing, or its clip norm is not the one that the round before left.
            BadInput: it was spent before and gave something else. Nothing of it left, so what is there can be gone on
                with where clients train to the same bits again.
        """
        entry = RoundSpent(
            round=round_number,
            noise_multiplier=self.mechanism.noise_multiplier,
            rate=self.mechanism.rate,
            clip=clip,
            next_clip=next_clip,
            digest=digest(mean, next_clip),
        )
        if round_number > self.rounds:
            _broken(f"round {round_number} was run, and the ledger has {self.rounds}", "ε would leave rounds out.")
        if round_number < self.rounds:
            if entry != self.spent[round_number]:
                raise BadInput(
                    str(self.path.parent),
                    f"round {round_number + 1} was spent before, and now gave something else under the same noise: the "
                    "difference of the two would show updates without any, so nothing of it is used",
                    "Run it again as it was begun: the same data, device, number of threads and versions, by which "
                    "clients train to the same bits. Where they cannot, start over in another folder (--out); what was "
                    "spent here stays on record.",
                )
            return entry
        if clip != self.clip:
            _broken(
                f"round {round_number} clipped to {clip:g}, and the round before it left {self.clip:g}",
                "A norm that follows from anything else than noised counts may tell of updates.",
            )
        append_line(self.path, asdict(entry))
        self.spent.append(entry)
        return entry

    def epsilon(self, rounds: int | None = None) -> EpsilonSpent:
        """ε of each client, of the rounds on record (the first so many of them): counted from the lines, not from what
        was planned."""
        number = self.rounds if rounds is None else rounds
        if self.mechanism.relation != ADD_OR_REMOVE:
            return self.mechanism.epsilon(number)
        steps: dict[Mechanism, int] = {}
        for entry in self.spent[:number]:
            step = Mechanism(noise_multiplier=entry.noise_multiplier, rate=entry.rate)
            steps[step] = steps.get(step, 0) + 1
        if len(steps) == 1:
            ((step, times),) = steps.items()
            return accounting.spent(step, steps=times, delta=self.mechanism.delta)
        parts = tuple(composition.Part(mechanism=step, steps=times) for step, times in steps.items())
        return composition.total(parts, delta=self.mechanism.delta)


def about(mechanism: ClientMechanism) -> dict[str, Any]:
    """The mechanism that a ledger's rounds are of, as its first line has it; of the key only whether it is the same."""
    fields = {name: value for name, value in asdict(mechanism).items() if name != "key"}
    return {
        "format": FORMAT,
        "unit": "client",
        "relation": mechanism.relation,
        **fields,
        "key": hashlib.sha256(b"rounds" + mechanism.key).hexdigest()[:16],
    }


def digest(mean: Update, next_clip: float) -> str:
    """SHA-256 of what a round gave, in hex; array by array in the order of their names."""
    hashed = hashlib.sha256(repr(next_clip).encode())
    for name in sorted(mean):
        hashed.update(f"\n{name} {tuple(mean[name].shape)}\n".encode())
        hashed.update(mean[name].contiguous().numpy().tobytes())
    return hashed.hexdigest()


def _broken(measured: str, meaning: str) -> None:
    raise GuaranteeViolated("each round is spent once, before its aggregate leaves", measured, meaning)
