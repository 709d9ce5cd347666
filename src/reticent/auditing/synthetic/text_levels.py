# SPDX-License-Identifier: Apache-2.0
"""Scores by the synthetic text → the levels that are judged by the statistics of membership."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from reticent.attacks.user.aggregate import aggregate
from reticent.auditing.membership.level import AttackScores, Level
from reticent.auditing.membership.rethrow import of_records, of_users
from reticent.auditing.synthetic.collect import GAIN, LIKENESS, PAIRS, SyntheticEvidence
from reticent.auditing.synthetic.text_units import TextUnits, record_units, user_units
from reticent.core.finding import ThreatModel
from reticent.core.membership import Membership

PAPER = "arXiv:2502.14921"
SUMMARY = {
    GAIN: "Mean log-likelihood of a record under word pairs of the synthetic text, less that under all other records.",
    PAIRS: "Mean log-likelihood of a record under word pairs of the synthetic text.",
    LIKENESS: "Mean Jaccard likeness of a record to the 25 synthetic texts that are nearest to it.",
}
NEEDS = {GAIN: ("texts of the same kind",), PAIRS: (), LIKENESS: ()}
"""Things that an attacker must have beside the synthetic text and the record."""


def threat(attack: str) -> ThreatModel:
    """The attacker of one of the attacks: sees the synthetic text alone."""
    return ThreatModel(access="text", needs=("the synthetic text alone, no model", *NEEDS.get(attack, ())))


def text_levels(evidence: SyntheticEvidence, membership: Membership) -> Iterator[Level]:
    """The levels of records and of users, as far as there are any."""
    yield _record_level(evidence, record_units(membership), membership)
    users = user_units(membership)
    if users is not None and membership.unit == "user":
        yield _user_level(evidence, users, membership)


def _record_level(evidence: SyntheticEvidence, units: TextUnits, membership: Membership) -> Level:
    same = "of the same users" if membership.unit == "user" else "of the same source"
    return Level(
        name="record",
        member=units.member,
        cluster=membership.user[units.rows] if membership.has_users else None,
        attacks=[_scored(name, score[units.rows], "record") for name, score in evidence.scores.items()],
        what=f"records that were read against held-out records {same}, by the synthetic text alone",
        rethrow=of_records(membership.take(units.rows)),
    )


def _user_level(evidence: SyntheticEvidence, units: TextUnits, membership: Membership) -> Level:
    owner = np.array(units.owner, dtype=str)[units.rows]
    attacks = []
    for name, score in evidence.scores.items():
        for how in ("mean", "max"):
            users, values = aggregate(score[units.rows], owner, how)
            ordered = _in_order(users, values, units.names)
            attacks.append(_scored(name if how == "mean" else f"{name}:max", ordered, "user"))
    return Level(
        name="user",
        member=units.member,
        cluster=None,
        attacks=attacks,
        what="users who were read against users who were not, by the synthetic text alone",
        rethrow=of_users(len(units.member), membership.unit),
    )


def _in_order(
    users: npt.NDArray[np.str_], values: npt.NDArray[np.float64], names: tuple[str, ...]
) -> npt.NDArray[np.float64]:
    place = {str(user): number for number, user in enumerate(users)}
    return values[[place[name] for name in names]]


def _scored(name: str, score: npt.NDArray[np.float64], level: str) -> AttackScores:
    attack = name.partition(":")[0]
    return AttackScores(
        name=name,
        score=score,
        threat=threat(attack),
        level=level,
        paper=PAPER,
        summary=SUMMARY[attack] if attack == name else f"The largest of a user's records. {SUMMARY[attack]}",
    )
