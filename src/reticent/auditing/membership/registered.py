# SPDX-License-Identifier: Apache-2.0
"""Attacks on scores and internals that other distributions register: run as they are, judged as ours are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Attack
from reticent.attacks.learned_halves import HALF, learns, looks_at_judged
from reticent.auditing.membership.level import AttackScores, Level
from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import ThreatModel
from reticent.stats.cross_fitting import halves


def registered_scores(
    attacks: Sequence[Attack], level: Level, internals: Mapping[str, npt.NDArray[np.float64]] | None, *, seed: int
) -> tuple[Sequence[AttackScores], Sequence[str]]:
    """Scores of these attacks, and a line for each that had to be refused.

    One that reads labels is judged on either half by itself; it is refused where it does not say which half it learned
    from, or where the labels of a half change that half's own scores.

    Args:
        attacks: that read ``scores`` or ``internals``.
        level: records, with the scores of all attacks that learn from no label.
        internals: properties of the records by name; None without a look inside.
        seed: of the halves.
    """
    known: dict[str, Any] = {"scores": level.together, "internals": internals}
    labels = {"member": level.member, "user": level.cluster, HALF: halves(level.member, level.cluster, seed=seed)}
    scored: list[AttackScores] = []
    refused: list[str] = []
    for attack in attacks:
        if known[attack.source] is None:
            continue
        outcome = _scored(attack, known | labels, seed)
        if isinstance(outcome, str):
            refused.append(f"{attack.name}: {outcome}")
        else:
            scored.append(outcome)
    return scored, refused


def _scored(attack: Attack, evidence: Mapping[str, Any], seed: int) -> AttackScores | str:
    """The scores, or why there are none."""
    if learns(attack) and HALF not in attack.evidence:
        return "learns from labels and does not say from which; an attack that reads `member` must read `half` too"
    try:
        scores = attack.score(evidence)
    except (BadInput, Underpowered) as error:
        return f"{error.given}: {error.why}. {error.fix}"
    missing = int(np.isnan(scores).sum())
    if missing:
        return f"gives no score for {missing} of {len(scores)} records"
    needs = ("records of known membership",) if learns(attack) else ()
    unlearned = AttackScores(
        name=attack.name,
        score=scores,
        threat=ThreatModel(access=attack.access, needs=needs),
        paper=attack.paper.id,
        summary=attack.described,
    )
    if not learns(attack):
        return unlearned
    if looks_at_judged(attack, evidence, scores, seed=seed):
        return "its scores of a half change with the labels of that half, so they are not believed"
    note = "learned on either half, judged on the other"
    return replace(unlearned, notes=(note,), second=evidence[HALF])
