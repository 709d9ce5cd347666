# SPDX-License-Identifier: Apache-2.0
"""Evidence → the levels that are judged: the units on both sides, and their scores by every attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import ATTACKS, Attack
from reticent.attacks.membership.combination import Combination, combination
from reticent.attacks.user.aggregate import aggregate
from reticent.auditing.membership.collect import MembershipEvidence
from reticent.auditing.membership.level import COMBINATION, AttackScores, Level
from reticent.auditing.membership.registered import registered_scores
from reticent.auditing.membership.rethrow import of_records, of_users, sides_of
from reticent.auditing.membership.users import UserEvidence
from reticent.auditing.membership.whitebox import auditors
from reticent.core.finding import ThreatModel

LEAST = 10
"""Users or records on a side, at least, for something to be learned from half of them."""
NEEDS = {
    "reference": "the base model",
    "population": "texts known to be outside",
    "known_held_out": "texts known to be outside",
    "known_members": "texts known to be inside",
    "users": "texts of the person",
    "shadows": "the pool of records, to train models like it on parts of it",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelUnits:
    """A level with the ids of its units, and a line for each attack that had to be refused."""

    level: Level
    ids: Sequence[str]
    refused: tuple[str, ...] = ()


def threat_of(attack: Attack) -> ThreatModel:
    """The access and the data that an attacker needs for this attack."""
    return ThreatModel(access=attack.access, needs=tuple(NEEDS[need] for need in NEEDS if need in attack.requires))


def record_level(evidence: MembershipEvidence, *, seed: int) -> LevelUnits:
    """Records that were trained on against records that were not.

    Where coins were thrown for users first, held-out records are those of the same users: what differs between the
    two sides is then only the coin, not who wrote them.
    """
    membership = evidence.membership
    rows = membership.at_record_level
    what = "held-out records of the same users" if membership.unit == "user" else "held-out records of the same source"
    scored = [
        AttackScores(
            name=name,
            score=scores[rows],
            threat=threat_of(ATTACKS.get(name)),
            notes=evidence.notes.get(name, ()),
            paper=ATTACKS.get(name).paper.id,
            summary=ATTACKS.get(name).summary,
        )
        for name, scores in evidence.scores.items()
        if ATTACKS.get(name).unit == "record"
    ]
    level = Level(
        name="record",
        member=membership.member[rows],
        cluster=membership.user[rows] if membership.has_users else None,
        attacks=scored,
        what=f"members against {what}",
        rethrow=of_records(membership.take(rows)),
        together=np.column_stack([attack.score for attack in scored]) if scored else None,
    )
    combined = _combined(level, seed)
    whitebox, why_not = auditors(evidence.inside, level, seed) if evidence.inside is not None else ((), ())
    inside = evidence.inside
    properties = None if inside is None else {**inside.forward, **inside.backward}
    others, others_refused = registered_scores(evidence.choice.on_others, level, properties, seed=seed)
    return LevelUnits(
        level=replace(level, attacks=(*scored, *combined.attacks, *whitebox, *others), learned=combined.learned),
        ids=list(membership.record_id[rows]),
        refused=(*combined.refused, *why_not, *others_refused),
    )


class CombinedAttack(NamedTuple):
    """The combination of all record attacks, or why there is none."""

    attacks: tuple[AttackScores, ...] = ()
    learned: Combination | None = None
    refused: tuple[str, ...] = ()


def _combined(level: Level, seed: int) -> CombinedAttack:
    """All record attacks as one, learned on either half of the owners for the other."""
    units = min(sides_of(level.thrown.design, level.member))
    if len(level.attacks) < 2 or units < LEAST:
        reason = f"needs 2 attacks and {LEAST} users or records on each side, has {len(level.attacks)} and {units}"
        return CombinedAttack(refused=(f"{COMBINATION}: {reason}",))
    matrix = np.column_stack([scored.score for scored in level.attacks])
    learned = combination(matrix, level.cluster, level.thrown.design.stratum, seed=seed)
    scored = AttackScores(
        name=COMBINATION,
        score=learned.scores(level.member),
        threat=ThreatModel(access="logits", needs=_needs_of_all(level)),
        notes=(f"{len(level.attacks)} attacks, learned on either half, judged on the other",),
        summary=ATTACKS.get(COMBINATION).summary,
        second=learned.in_second,
    )
    return CombinedAttack(attacks=(scored,), learned=learned)


def _needs_of_all(level: Level) -> tuple[str, ...]:
    pool = any(NEEDS["shadows"] in scored.threat.needs for scored in level.attacks)
    return ("the base model", "records of known membership", *((NEEDS["shadows"],) if pool else ()))


def user_level(evidence: MembershipEvidence, users: UserEvidence) -> LevelUnits:
    """Users who were trained on against users who were not, by user attacks and the mean of every record attack."""
    owners = evidence.membership.user[users.rows].astype(str)
    scored = [
        _of_users(name, how, aggregate(scores[users.rows], owners, how)[1])
        for name, scores in evidence.scores.items()
        for how in (("mean", "max", "min") if ATTACKS.get(name).unit == "user" else ("mean",))
    ]
    level = Level(
        name="user",
        member=users.member,
        cluster=None,
        attacks=scored,
        what=users.what,
        rethrow=of_users(len(users.member), evidence.membership.unit),
    )
    return LevelUnits(level=level, ids=list(users.users))


def _of_users(name: str, how: str, score: npt.NDArray[np.float64]) -> AttackScores:
    attack = ATTACKS.get(name)
    is_headline = attack.unit == "user" and how == "mean"
    needs = tuple(dict.fromkeys((*threat_of(attack).needs, NEEDS["users"])))
    return AttackScores(
        name=name if is_headline else f"{name}:{how}",
        score=score,
        threat=ThreatModel(access=attack.access, needs=needs),
        level="user",
        paper=attack.paper.id,
        summary=f"{how} of {name} over the texts of a user",
    )


def canary_users(evidence: MembershipEvidence) -> LevelUnits | None:
    """Users who share a phrase of their own in every text, trained on or not (arXiv:2310.09266, Algorithm 1).

    None where no user was made a canary, or without a reference.
    """
    planted = evidence.canary_users
    if planted is None:
        return None
    users, score = aggregate(planted.score, planted.membership.user.astype(str), "mean")
    first = np.unique(planted.membership.user.astype(str), return_index=True)[1]
    scored = AttackScores(
        name="user_inference",
        score=score,
        threat=threat_of(ATTACKS.get("user_inference")),
        level="canary",
        paper=ATTACKS.get("user_inference").paper.id,
    )
    level = Level(
        name="canary",
        member=planted.membership.user_member[first],
        cluster=None,
        attacks=[scored],
        what="canary users, whose texts all hold a phrase of their own, by texts that were never trained on",
        rethrow=of_users(len(first), "user"),
    )
    return LevelUnits(level=level, ids=list(users))
