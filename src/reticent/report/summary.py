# SPDX-License-Identifier: Apache-2.0
"""Highlights of a Results: the picks and orders that the page, the console and the list of runs share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reticent.core.finding import Estimate, Finding, Severity
from reticent.core.results import CanaryExposure, Results

STATUS_WORDS = {
    "leaks": "Leak detected",
    "not_detected": "No leak detected",
    "confounded": "No claim possible",
    "underpowered": "Too few units to say",
}
"""Never "safe": what was not detected may be there."""

ACCESS_WORDS = {
    "text": "generated text",
    "top_k": "top-k probabilities",
    "logprob": "log-probabilities of chosen text",
    "logits": "whole next-token distributions",
    "hidden": "hidden states",
    "grad": "gradients",
    "weights": "the weights",
    "train_time": "the training run",
}


def best(results: Results, level: str, metric: str) -> Finding | None:
    """The finding of that level (``"*"``: of any) and metric that leaks most; None when none was measured."""
    measured = [finding for finding in results.all_findings if finding.metric == metric]
    return max((finding for finding in measured if level in ("*", finding.level)), key=_leakage, default=None)


def strongest_epsilon(results: Results) -> Finding | None:
    """The largest empirical lower bound on ε, of any unit."""
    return best(results, "*", "epsilon_lower")


def by_severity(findings: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    """``(detected, looked for and not detected)``, each from most to least severe; equals keep their order."""
    order = {severity: rank for rank, severity in enumerate(Severity)}
    ranked = sorted(findings, key=lambda finding: order[finding.severity])
    detected = [finding for finding in ranked if finding.severity != Severity.NONE]
    return detected, [finding for finding in ranked if finding.severity == Severity.NONE]


def worst(detected: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    """``(the most severe of each level and kind of number, of equals the largest; the others)``, in their order."""
    order = {severity: rank for rank, severity in enumerate(Severity)}
    first: dict[tuple[str, str], Finding] = {}
    for finding in detected:
        kind = (finding.level, finding.metric.partition("@")[0])
        earlier = first.get(kind)
        if earlier is None or (order[finding.severity], -_leakage(finding)) < (
            order[earlier.severity],
            -_leakage(earlier),
        ):
            first[kind] = finding
    chosen = set(map(id, first.values()))
    parted: tuple[list[Finding], list[Finding]] = ([], [])
    for finding in detected:
        parted[id(finding) not in chosen].append(finding)
    return parted


def advice(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """``(severity, what to do)`` of what was detected, each advice once, that of the most severe finding first."""
    detected, _ = by_severity(findings)
    first: dict[str, str] = {}
    for finding in detected:
        if finding.advice:
            first.setdefault(finding.advice, str(finding.severity))
    return [(severity, words) for words, severity in first.items()]


def aucs(results: Results, level: str) -> list[tuple[str, Estimate]]:
    """``(attack, AUC)`` of every attack of that level, largest first."""
    measured = [(f.attack, f.estimate) for f in results.all_findings if f.metric == "auc" and f.level == level]
    return sorted(measured, key=lambda row: -row[1].value)


def planted(results: Results, kind: str = "record") -> tuple[CanaryExposure | None, CanaryExposure | None]:
    """``(the tier planted most often, the controls)`` of canaries of that kind."""
    tiers = [tier for tier in results.exposure if tier.kind == kind]
    most = max((tier for tier in tiers if tier.repetitions > 0), key=lambda tier: tier.repetitions, default=None)
    return most, next((tier for tier in tiers if tier.repetitions == 0), None)


def expected_by_chance(level: str, n_member: int) -> str:
    """How many p-values look small by chance alone among ``n_member`` units, in words; empty without units."""
    if n_member < 1:
        return ""
    rate = 0.01 if n_member >= 100 else 0.1
    return (
        f"Of {n_member:,} {level}s about {n_member * rate:.0f} would have p ≤ {rate:g} "
        "even if the model gave nothing away."
    )


def _leakage(finding: Finding) -> float:
    value = finding.estimate.value
    return (value if finding.estimate.higher_is_worse else -value) if math.isfinite(value) else -math.inf
