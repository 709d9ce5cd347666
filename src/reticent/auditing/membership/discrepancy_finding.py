# SPDX-License-Identifier: Apache-2.0
"""The discrepancy of a level: the advantage of one set in the space of all scores. It describes, and is no test."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reticent.auditing.membership.level import Level
from reticent.core.errors import Underpowered
from reticent.core.finding import ACCESS, Finding, Severity, ThreatModel
from reticent.stats.discrepancy import Discrepancy, discrepancy

DISCREPANCY = "discrepancy"
"""Name of a finding about all attacks of a level together."""


def discrepancy_finding(
    level: Level, scores: npt.NDArray[np.float64], *, confidence: float, seed: int
) -> tuple[Finding | None, str]:
    """The advantage (TPR less FPR) of a polytope in the space of all scores, or the reason why it is refused.

    Args:
        level: the units.
        scores: ``[U, A]`` of attacks that learned from no label.
        confidence: of its interval.
        seed: of the halves.

    Returns:
        The finding and an empty reason; or None and the reason. It is refused where permuted labels show it too.
    """
    members, held_out = _owners(level)
    try:
        measured = discrepancy(
            scores[level.member],
            scores[~level.member],
            member_cluster=members,
            held_out_cluster=held_out,
            confidence=confidence,
            seed=seed,
        )
    except Underpowered as error:
        return None, f"{level.name} level, {DISCREPANCY}: {error.given}: {error.why}. {error.fix}"
    control = measured.control
    if control.lo > 0:
        return None, f"{DISCREPANCY}: it finds membership in permuted labels ({control}), so it is not believed"
    return _finding(level, measured), ""


def _finding(level: Level, measured: Discrepancy) -> Finding:
    advantage, control = measured.advantage, measured.control
    around = "members" if measured.inside == "member" else "held-out units"
    drawn = f" ({measured.fitted:,} of its {measured.of:,} units, drawn by the seed)" * (measured.fitted < measured.of)
    return Finding(
        attack=DISCREPANCY,
        level=level.name,
        metric="advantage",
        estimate=advantage,
        severity=Severity.NONE,
        threat=_threat(level),
        statement=f"All attacks together: one set of scores holds a {level.name} that was trained on more often than "
        f"one that was not, by {advantage.value:.3f} [{advantage.lo:.3f}, {advantage.hi:.3f}] (0 is chance, 1 tells "
        "them apart).",
        notes=(
            f"{measured.facets} facets around {around}, chosen and fitted on one half{drawn}, measured on the other",
            f"with permuted labels {control.value:.3f} [{control.lo:.3f}, {control.hi:.3f}]",
            "describes, and decides no verdict",
        ),
    )


def _owners(level: Level) -> tuple[npt.NDArray[np.str_] | None, npt.NDArray[np.str_] | None]:
    """Owners of the members and of the held-out units; None where units are independent."""
    if level.cluster is None:
        return None, None
    names = level.cluster.astype(str)
    return names[level.member], names[~level.member]


def _threat(level: Level) -> ThreatModel:
    """The access and the data that all attacks together need, and records of known membership."""
    threats = [scored.threat for scored in level.attacks if scored.second is None]
    needs = dict.fromkeys(need for threat in threats for need in threat.needs) | {"records of known membership": None}
    access = max((threat.access for threat in threats), key=ACCESS.index, default="logits")
    return ThreatModel(access=access, needs=(*needs,))
