# SPDX-License-Identifier: Apache-2.0
"""What the recorded coins prove about ε: lower bounds from this one run, for whatever the coins were thrown for."""

from __future__ import annotations

from collections.abc import Sequence

from reticent.auditing.levels import Level, Scored
from reticent.auditing.verdict import severity
from reticent.core.finding import Estimate, Finding, Severity
from reticent.stats.epsilon import epsilon_lower_bounds
from reticent.stats.hypothesis import family_confidence

STATISTIC = {"record": ("ref_ratio", "loss"), "user": ("ref_ratio:mean", "user_inference", "loss:mean")}
"""Chosen before the scores are seen: the first that ran. Taking the best one afterwards would break the bound."""
GUESSES = 10
"""A tenth of the units is guessed "in" and a tenth "out", also fixed before."""
BOUNDS = 3


def epsilon_findings(
    level: Level, *, unit: str, probability: float, delta: float, confidence: float, confounded: bool
) -> Sequence[Finding]:
    """Three lower bounds on ε that hold together, if fair coins were thrown for just these units; else nothing.

    Args:
        level: the units and their scores.
        unit: what the coins were thrown for; another level's units had no coins of their own.
        probability: of the coins; the bounds need 1/2.
        delta: of the (ε, δ) that is bounded.
        confidence: of the three bounds together.
        confounded: the two sides differ without any model, so the coins were not what made the difference.
    """
    chosen = _statistic(level)
    if unit != level.name or probability != 0.5 or chosen is None:
        return ()
    each = family_confidence(confidence, BOUNDS)
    member, held_out = chosen.score[level.member], chosen.score[~level.member]
    guesses = max(1, len(level.member) // GUESSES)
    bounds = epsilon_lower_bounds(
        member, held_out, delta=delta, k_plus=guesses, k_minus=guesses, unit=level.name, confidence=each
    )
    assumed = {
        "no assumption on the training": bounds.one_run,
        "assumes Gaussian noise": bounds.gdp_one_run,
        "assumes that units do not interact": bounds.clopper_pearson,
    }
    return tuple(_finding(level, chosen, bound, assumption, confounded) for assumption, bound in assumed.items())


def _statistic(level: Level) -> Scored | None:
    by_name = {scored.name: scored for scored in level.attacks}
    return next((by_name[name] for name in STATISTIC[level.name] if name in by_name), None)


def _statement(estimate: Estimate, assumption: str) -> str:
    if estimate.value == 0:
        return f"No lower bound on ε above 0 {estimate.unit} could be shown ({assumption})."
    return f"Whatever privacy was claimed, ε is at least {estimate.value:.2f} {estimate.unit} ({assumption})."


def _finding(level: Level, scored: Scored, estimate: Estimate, assumption: str, confounded: bool) -> Finding:
    return Finding(
        attack=scored.name,
        level=level.name,
        metric="epsilon_lower",
        estimate=estimate,
        severity=Severity.NONE if confounded else severity("epsilon_lower", estimate.lo),
        threat=scored.threat,
        statement=_statement(estimate, assumption),
        advice="Train with differential privacy if a bound on ε is owed." if estimate.value > 0 else "",
        notes=(estimate.method, assumption),
    )
