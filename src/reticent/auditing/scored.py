# SPDX-License-Identifier: Apache-2.0
"""Evidence → the levels that are judged: which units are compared with which, and by which scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reticent.attacks.attack import ATTACKS, Attack
from reticent.attacks.membership.combination import combine
from reticent.attacks.user.aggregate import aggregate
from reticent.auditing.evidence import Evidence
from reticent.auditing.levels import Level, Scored
from reticent.auditing.users import UserEvidence
from reticent.core.finding import ThreatModel
from reticent.stats.roc import auc

COMBINATION = "combination"
FOLDS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """A level with the ids of its units, and what had to be left out of it."""

    level: Level
    ids: Sequence[str]
    refused: tuple[str, ...] = ()


def threat_of(attack: Attack) -> ThreatModel:
    """What an attacker must have to do this."""
    needs = []
    if any(request.model == "reference" for request in attack.requests):
        needs.append("the base model")
    if {"known", "known_ref"} & set(attack.evidence):
        needs.append("texts known to be outside")
    if attack.level == "user":
        needs.append("texts of the person")
    return ThreatModel(access=attack.access, needs=tuple(needs))


def record_level(evidence: Evidence, *, seed: int) -> Units:
    """Records that were trained on against records that were not.

    Where coins were thrown for users first, held-out records are those of the same users: what differs between the
    two sides is then only the coin, not who wrote them.
    """
    coins = evidence.coins
    rows = coins.user_member if coins.unit == "user" else np.ones(len(coins), dtype=bool)
    what = "held-out records of the same users" if coins.unit == "user" else "held-out records of the same source"
    scored = [
        Scored(
            name=name,
            score=scores[rows],
            threat=threat_of(ATTACKS.get(name)),
            notes=evidence.notes.get(name, ()),
        )
        for name, scores in evidence.scores.items()
        if ATTACKS.get(name).level == "record"
    ]
    level = Level(
        name="record",
        member=coins.member[rows],
        cluster=coins.user[rows] if coins.has_users else None,
        attacks=scored,
        what=f"members against {what}",
    )
    combined, refused = _combined(level, seed)
    return Units(
        level=replace(level, attacks=(*scored, *combined)), ids=list(coins.record_id[rows]), refused=tuple(refused)
    )


def _combined(level: Level, seed: int) -> tuple[Sequence[Scored], Sequence[str]]:
    """All record attacks as one, cross-fitted; refused where there is too little to learn from, or where the same
    procedure on permuted labels beats chance, so that labels would leak through it."""
    owners = level.cluster if level.cluster is not None else np.arange(len(level.member)).astype(str).astype(object)
    units = min(len(np.unique(owners[side].astype(str))) for side in (level.member, ~level.member))
    if len(level.attacks) < 2 or units < 2 * FOLDS:
        reason = f"needs 2 attacks and {2 * FOLDS} users or records on each side, has {len(level.attacks)} and {units}"
        return (), [f"{COMBINATION}: {reason}"]
    matrix = np.column_stack([scored.score for scored in level.attacks])
    learned = combine(matrix, level.member, level.cluster, folds=FOLDS, seed=seed)
    control = auc(
        learned.control_score[learned.control_member], learned.control_score[~learned.control_member], confidence=0.9999
    )
    if control.lo > 0.5:
        return (), [f"{COMBINATION}: it finds membership in permuted labels (AUC {control}), so it is not believed"]
    note = f"{len(level.attacks)} attacks, cross-fitted in {FOLDS} folds; AUC on permuted labels {control.value:.3f}"
    threat = ThreatModel(access="logits", needs=("the base model", "records of known membership"))
    return [Scored(name=COMBINATION, score=learned.score, threat=threat, notes=(note,))], []


def user_level(evidence: Evidence, users: UserEvidence) -> Units:
    """Users who were trained on against users who were not, by user attacks and the mean of every record attack."""
    owners = evidence.coins.user[users.rows].astype(str)
    scored: list[Scored] = []
    for name, scores in evidence.scores.items():
        attack = ATTACKS.get(name)
        for how in ("mean", "max", "min") if attack.level == "user" else ("mean",):
            _, score = aggregate(scores[users.rows], owners, how)
            label = name if attack.level == "user" and how == "mean" else f"{name}:{how}"
            needs = tuple(dict.fromkeys((*threat_of(attack).needs, "texts of the person")))
            scored.append(Scored(name=label, score=score, threat=ThreatModel(access=attack.access, needs=needs)))
    level = Level(name="user", member=users.member, cluster=None, attacks=scored, what=users.what)
    return Units(level=level, ids=list(users.users))
