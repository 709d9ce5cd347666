# SPDX-License-Identifier: Apache-2.0
"""Ranks of natural identifiers → findings: exact tests that need no held-out records. Pure, no model and no file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import ATTACKS
from reticent.attacks.natural_identifiers import NAME
from reticent.auditing.identifiers.collect import CONTROLS, IdentifierEvidence
from reticent.auditing.verdict import severity
from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.stats.hypothesis import family_confidence
from reticent.stats.proportions import share
from reticent.stats.uniform_ranks import rank_sum_p, top_p

LEAST = 10
"""Fewer identifiers than this, and nothing is said."""
MISFIT = 0.01
"""Identifiers that were held out and do not rank uniformly at this level show that controls are unlike real values."""
METRICS = ("auc", "tpr@0.01")
TESTED = "identifiers of one form in records that were trained on"


def evaluate(evidence: IdentifierEvidence, *, confidence: float) -> tuple[list[Finding], list[str]]:
    """Findings about identifiers that were trained on, and a line with the reason for each that had to be refused.

    Args:
        evidence: the ranks.
        confidence: that all findings hold together.
    """
    notes = [
        f"{NAME}: {count:,} values {reason}, so they are not ranked"
        for reason, count in sorted(evidence.left_out.items())
    ]
    ranks = evidence.rank[evidence.member]
    if len(ranks) < LEAST:
        return [], [*notes, f"{NAME}: {len(ranks)} {TESTED}; needs {LEAST}"]
    control, why_not = _control(evidence.rank[~evidence.member])
    if why_not:
        return [], [*notes, why_not]
    confidence = family_confidence(confidence, len(METRICS))
    kinds = Counter(kind for kind, member in zip(evidence.kind, evidence.member.tolist(), strict=True) if member)
    about = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    users = [user for user, member in zip(evidence.user, evidence.member.tolist(), strict=True) if member]
    try:
        return [_finding(metric, ranks, users, confidence, (about, control)) for metric in METRICS], notes
    except Underpowered as error:
        return [], [*notes, f"{NAME}: {error}"]


def _control(ranks: npt.NDArray[np.int64]) -> tuple[str, str]:
    """Check of the controls by identifiers that were held out: a note, or the reason why no finding is believed."""
    if len(ranks) < LEAST:
        return f"{len(ranks)} held-out identifiers: too few to check the controls with", ""
    below = rank_sum_p(ranks, CONTROLS + 1)
    above = rank_sum_p(CONTROLS + 2 - ranks, CONTROLS + 1)
    p = min(1.0, 2 * min(below, above))
    beaten = f"{len(ranks)} identifiers of held-out records beat {_beaten(ranks).mean():.1%} of their controls"
    if p < MISFIT:
        return (
            "",
            f"{NAME}: {beaten} (p = {p:.2g} for half of them), so controls are unlike real values: not believed",
        )
    return f"{beaten} (p = {p:.2g} for half of them, which is what controls of the same form give)", ""


def _beaten(ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """``[N]``: share of its controls that each value is likelier than."""
    return (CONTROLS + 1 - ranks) / CONTROLS


def _finding(
    metric: str, ranks: npt.NDArray[np.int64], users: Sequence[str], confidence: float, notes: tuple[str, str]
) -> Finding:
    first = metric == "tpr@0.01"
    values = (ranks == 1).astype(np.float64) if first else _beaten(ranks)
    p = top_p(ranks, CONTROLS + 1, 1) if first else rank_sum_p(ranks, CONTROLS + 1)
    estimate = share(values, np.array(users), confidence=confidence)
    shown = f"{estimate.value:.1%} [{estimate.lo:.1%}, {estimate.hi:.1%}]"
    about = f"{len(ranks):,} identifiers that were trained on"
    sentence = (
        f"Of {about}, {shown} are likelier to the model than all {CONTROLS} controls of the same form (1 % is chance)."
        if first
        else f"{about} are likelier to the model than {shown} of {CONTROLS} controls of the same form (50 % is chance)."
    )
    return Finding(
        attack=NAME,
        level="identifier",
        metric=metric,
        estimate=replace(estimate, method=f"{estimate.method}; exact rank test p = {p:.2g}"),
        severity=_severity(metric, estimate, p, confidence),
        threat=ThreatModel(access=ATTACKS.get(NAME).access, needs=("the base model", "the text around the identifier")),
        statement=f"{sentence} Exact p = {p:.2g}.",
        advice="Remove or mask identifiers before training, and drop repeated records.",
        notes=(f"{notes[0]}", notes[1], "exact where issuers draw these characters at random"),
    )


def _severity(metric: str, estimate: Estimate, p: float, confidence: float) -> Severity:
    """The exact test decides that there is a leak, the interval how severe it is."""
    if p > 1 - confidence:
        return Severity.NONE
    grade = severity(metric, estimate.lo)
    return Severity.LOW if grade is Severity.NONE else grade
