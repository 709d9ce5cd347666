# SPDX-License-Identifier: Apache-2.0
"""A level: the units that are compared (records, users, canary users) and the scores of every attack."""

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
"""Name of the attack that weighs all others."""


@dataclass(frozen=True, kw_only=True)
class AttackScores:
    """One attack's scores of the units of a level.

    Args:
        name: of the attack; with the aggregation for users.
        score: ``[U]``, higher = leaks more.
        threat: access and data that an attacker needs for it.
        level: of the units that it scores.
        notes: counts of edge cases.
        paper: where the attack was published.
        summary: the statistic in one line.
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
        cluster: ``[U]`` owner of each unit, for intervals; None when units are independent.
        attacks: the scores.
        what: the compared units in words, for the report.
        rethrow: the labellings that coins thrown again could give; None: any labelling, which is an assumption.
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
        """The labellings that coins thrown again could give."""
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
        """True where both sides have ``MIN_UNITS`` units."""
        return min(self.n_member, self.n_held_out) >= MIN_UNITS
