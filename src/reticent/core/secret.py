# SPDX-License-Identifier: Apache-2.0
"""Secret: a passage that an attacker tries to get out of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reticent.core.errors import BadInput
from reticent.core.record import Record


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A secret within a record: what stands before it is what the attacker gives the model.

    Args:
        id: unique.
        record: the record as it was trained on (or, for controls, as it would have been).
        start, end: the secret, characters of ``record.plain``.
        kind: "EMAIL", "PERSON", the kind of a canary, …
        group: what it is reported under, e.g. "planted 4 times", "never planted", "missed by the scrubber". Words for
            people: nothing is decided by them.
        member: whether it was trained on.
        source: where it is from: ``"canary"``: made up, and planted or left out by a coin; ``"span"``: personal data of
            a record; ``"given"``: a list of the person's own.

    Raises:
        BadInput: the secret is empty or lies outside of the record.
    """

    id: str
    record: Record
    start: int
    end: int
    kind: str
    group: str
    member: bool
    source: Literal["canary", "span", "given"] = "given"

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= len(self.record.plain):
            raise BadInput(
                f"target {self.id!r}",
                f"characters {self.start} to {self.end} are no part of a record of {len(self.record.plain)}",
                "Make it from the record that it lies in.",
            )

    @property
    def randomized(self) -> bool:
        """True where a coin of this package's own decided if it was trained on, whatever the records are like."""
        return self.source == "canary"

    @property
    def secret(self) -> str:
        """The private text itself."""
        return self.record.plain[self.start : self.end]
