# SPDX-License-Identifier: Apache-2.0
"""A level: the units that are compared (records, users, canary users) and what every attack says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.attacks.membership.combination import Combination
from reticent.auditing.membership.rethrow import Rethrow, of_users
from reticent.core.finding import ThreatModel

Scores = npt.NDArray[np.float64]

FPRS = (0.1, 0.01, 0.001)
MIN_UNITS = 10
"""Fewer members or held-out units than this on a side, and nothing is said about the level."""
COMBINATION = "combination"
"""What the attack that weighs all others is called."""


@dataclass(frozen=True, kw_only=True)
class AttackScores:
    """One attack's scores of the units of a level.

    Args:
        name: of the attack; with the aggregation for users.
        score: ``[U]``, higher = leaks more.
        threat: who could do this.
        level: of the units that it scores.
        notes: edge cases counted.
        paper: where the attack was published.
        summary: what it computes, in a line.
        second: ``[U]`` bool, for scores that were learned: each half of the units was scored by what was learned on
            the other, so each is judged by itself. None: nothing was learned from labels, or folds were pooled.
    """

    name: str
    score: Scores
    threat: ThreatModel
    level: str = "record"
    notes: tuple[str, ...] = ()
    paper: str = ""
    summary: str = ""
    second: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True)
class Level:
    """The units of one level and every attack on them.

    Args:
        name: ``"record"``, ``"user"`` or ``"canary"`` (users who were made canaries).
        member: ``[U]`` bool.
        cluster: ``[U]`` who a unit belongs to, for intervals; None when units are independent.
        attacks: the scores.
        what: which units are compared, for the report.
        rethrow: how the coins would be thrown again; None: any unit could as well have been on the other side, which is
            an assumption.
        learned: all attacks as one, learned anew under every throw; None where there is too little to learn from.
        together: ``[U, A]`` scores of attacks that learned from no label, whose discrepancy is measured; None: it is
            not.
    """

    name: str
    member: npt.NDArray[np.bool_]
    cluster: npt.NDArray[np.object_] | None
    attacks: Sequence[AttackScores]
    what: str
    rethrow: Rethrow | None = None
    learned: Combination | None = None
    together: Scores | None = None

    @property
    def thrown(self) -> Rethrow:
        """How the coins would be thrown again."""
        return self.rethrow if self.rethrow is not None else of_users(len(self.member), "given")

    @property
    def n_member(self) -> int:
        return int(self.member.sum())

    @property
    def n_held_out(self) -> int:
        return int((~self.member).sum())

    @property
    def fprs(self) -> tuple[float, ...]:
        """False positive rates that there are held-out units enough for."""
        return tuple(fpr for fpr in FPRS if self.n_held_out >= 10 / fpr)

    @property
    def judged(self) -> bool:
        """Whether there are units enough on both sides to say anything."""
        return min(self.n_member, self.n_held_out) >= MIN_UNITS
