# SPDX-License-Identifier: Apache-2.0
"""Scores of one level (records or users) → findings, curves, distributions, power and what had to be refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reticent.auditing.error_budget import Claim, allot
from reticent.auditing.membership.curves import curve, distribution
from reticent.auditing.membership.detectable import detectable
from reticent.auditing.membership.discrepancy_finding import discrepancy_finding
from reticent.auditing.membership.level import FPRS, MIN_UNITS, AttackScores, Level
from reticent.auditing.membership.significance import AUC, TOP, LevelTests, by_statistic, significance, top
from reticent.auditing.verdict import severity
from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate, Finding, Severity
from reticent.core.results import Curve, Distribution, Power
from reticent.report.sentences import names, picks
from reticent.stats.simultaneous import (
    MemberSides,
    Number,
    auc_number,
    design_effect,
    mean_of_halves,
    sides,
    together,
    tpr_number,
)

Scores = npt.NDArray[np.float64]
PValues = Mapping[tuple[str, str, str], float]
"""By level, attack and statistic, adjusted for everything that the report tests."""

DISCREPANCY_SHARE = 0.1
"""Part of the level's error that the interval of the discrepancy gets."""

ADVICE = {
    "record": "Train fewer epochs or at a lower learning rate, drop repeated records, or train with differential "
    "privacy; then audit again.",
    "user": "Cap and deduplicate the records of each user, or train with user-level differential privacy; then audit "
    "again.",
    "canary": "Cap the records of each user, or train with user-level differential privacy; then audit again.",
}
REVERSED = (
    "clearly below chance: labels may be the wrong way round, or the model was made to forget these units so hard that "
    "it shows"
)


@dataclass(frozen=True, kw_only=True)
class LevelJudging:
    """Errors and p-values by which the findings of a level are judged.

    Args:
        p_values: of all statistics that the report tests.
        error: a finding counts where its p-value is at most this: the error of the whole report.
        miss: the level's part of that error. Its intervals miss no more often.
        confounded: the sides differ without any model, so nothing is evidence of leakage.
        seed: of multipliers and halves.
    """

    p_values: PValues
    error: float
    miss: float
    confounded: bool
    seed: int


@dataclass(frozen=True, kw_only=True)
class LevelResult:
    """Findings of one level, and what the report draws of it."""

    findings: tuple[Finding, ...]
    curves: tuple[Curve, ...]
    distributions: tuple[Distribution, ...]
    power: tuple[Power, ...]
    refused: tuple[str, ...]
    best: AttackScores | None
    """The attack whose AUC is certain to be highest (largest lower end of the simultaneous intervals)."""


NOTHING = LevelResult(findings=(), curves=(), distributions=(), power=(), refused=(), best=None)


def evaluate(level: Level, tests: LevelTests | None, judging: LevelJudging) -> LevelResult:
    """Statistics of every attack on one level.

    ``judging.p_values`` decide that something leaks; intervals that all hold together give the severity.

    Args:
        level: units and scores.
        tests: statistics with p-values under re-thrown coins; None where there are too few units.
        judging: p-values and errors.
    """
    if tests is None:
        reason = f"{level.name} level: {level.n_member} members and {level.n_held_out} held-out; needs {MIN_UNITS} each"
        return replace(NOTHING, refused=(reason,))
    numbers, refused = _numbers(level)
    miss = judging.miss if level.together is None else judging.miss * (1 - DISCREPANCY_SHARE)
    estimates = together(list(numbers.values()), confidence=1 - miss, seed=judging.seed)
    estimate_of = dict(zip(numbers, estimates, strict=True))
    aucs = {scored.name: estimate_of[scored.name, AUC] for scored in level.attacks if (scored.name, AUC) in estimate_of}
    best = max(
        (scored for scored in level.attacks if scored.name in aucs),
        key=lambda scored: (aucs[scored.name].lo, aucs[scored.name].value),
        default=None,
    )
    by_name = {scored.name: scored for scored in level.attacks}
    findings = [
        _finding(level, by_name[name], metric, estimate, judging) for (name, metric), estimate in estimate_of.items()
    ]
    discrepancies, why_not = _discrepancy(level, judging)
    findings += discrepancies
    refused += why_not
    if tests.smallest > judging.error:
        refused.append(
            f"{level.name} level: with so few that could change sides no p-value can be below {tests.smallest:.2g}, so "
            "no finding can count; use more users or records on each side"
        )
    primary = numbers.get((tests.primary, AUC))
    return LevelResult(
        findings=tuple(findings),
        curves=tuple(
            curve(level, scored, with_band=scored.name == tests.primary, seed=judging.seed) for scored in level.attacks
        ),
        distributions=tuple(distribution(level, scored) for scored in level.attacks),
        power=_power(level, tests, judging.miss, 1.0 if primary is None else design_effect(primary)),
        refused=tuple(dict.fromkeys(refused)),
        best=best,
    )


def judge_alone(level: Level, *, error: float = 0.05, confounded: bool = False, seed: int = 0) -> LevelResult:
    """`evaluate` where this level is all that is tested.

    >>> from reticent.core.finding import ThreatModel
    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(200) < 100
    >>> loss = AttackScores(name="loss", score=rng.normal(size=200) + member, threat=ThreatModel(access="logprob"))
    >>> level = Level(name="record", member=member, cluster=None, attacks=[loss], what="members against others")
    >>> [(finding.metric, str(finding.severity), finding.p_value < 0.01) for finding in judge_alone(level).findings]
    [('auc', 'medium', True), ('tpr@0.1', 'medium', True)]
    """
    tests = significance(level, seed=seed) if level.judged else None
    p_values: PValues = {}
    if tests is not None:
        allowance = allot(error, [Claim(name=level.name, weight=1.0, groups=tests.groups)])
        p_values = by_statistic(level.name, tests, allowance.p[level.name])
    judging = LevelJudging(p_values=p_values, error=error, miss=error, confounded=confounded, seed=seed)
    return evaluate(level, tests, judging)


def _numbers(level: Level) -> tuple[dict[tuple[str, str], Number], list[str]]:
    """By attack and metric, AUCs first; and a line for each that there are too few units for."""
    of = sides(level.member, level.cluster)
    numbers: dict[tuple[str, str], Number] = {}
    refused: list[str] = []
    for scored in level.attacks:
        try:
            numbers[scored.name, AUC] = _number(level, scored, of, None)
        except Underpowered as error:
            refused.append(f"{level.name} level, {scored.name}: {error.given}: {error.why}. {error.fix}")
    for fpr in level.fprs:
        for scored in level.attacks:
            try:
                numbers[scored.name, f"tpr@{fpr:g}"] = _number(level, scored, of, fpr)
            except Underpowered as error:
                refused.append(f"{level.name} level, TPR of {scored.name} at {fpr:.1%} FPR: {error.why}. {error.fix}")
    return numbers, [*refused, *_too_low(level)]


def _too_low(level: Level) -> list[str]:
    """False positive rates that rest on too few held-out units, in one line."""
    low = [fpr for fpr in FPRS if fpr not in level.fprs]
    if not low:
        return []
    rates, units = (", ".join(words) for words in ([f"{fpr:.1%}" for fpr in low], [f"{10 / fpr:,.0f}" for fpr in low]))
    return [
        f"{level.name} level, TPR at {rates} FPR: there are {level.n_held_out:,} held-out {level.name}s, and at least "
        f"{units} are needed, so that ten false alarms decide"
    ]


def _number(level: Level, scored: AttackScores, of: MemberSides, fpr: float | None) -> Number:
    if scored.second is None:
        return _plain(scored.score, of, fpr)
    halves, places = [], []
    for half in (~scored.second, scored.second):
        owners, number = np.unique(of.owner[half], return_inverse=True)
        halves.append(_plain(scored.score[half], MemberSides(member=level.member[half], owner=number), fpr))
        places.append(owners)
    return mean_of_halves(halves[0], halves[1], (places[0], places[1]), of.owners)


def _plain(score: Scores, of: MemberSides, fpr: float | None) -> Number:
    return auc_number(score, of) if fpr is None else tpr_number(score, of, fpr)


def _finding(level: Level, scored: AttackScores, metric: str, estimate: Estimate, judging: LevelJudging) -> Finding:
    p = _p_value(level, scored, metric, judging.p_values)
    weight = Severity.NONE if judging.confounded else severity(metric, estimate.lo, p=p, error=judging.error)
    notes = _notes(level, scored, judging.confounded)
    below = metric == AUC and estimate.hi < 0.5
    return Finding(
        attack=scored.name,
        level=level.name,
        metric=metric,
        estimate=estimate,
        severity=weight,
        threat=scored.threat,
        statement=_statement(level.name, scored.name, metric, estimate, leaks=weight is not Severity.NONE),
        advice=ADVICE[level.name] if weight is not Severity.NONE else "",
        notes=(*notes, REVERSED) if below else notes,
        p_value=p,
    )


def _p_value(level: Level, scored: AttackScores, metric: str, p_values: PValues) -> float | None:
    """Of the AUC itself; of a true positive rate that of members among the highest scores."""
    names = [metric]
    if metric != AUC:
        fpr = float(metric.removeprefix("tpr@"))
        names = [top(share) for share in (TOP if fpr in TOP else (fpr,))]
    candidates = [p_values[key] for name in names if (key := (level.name, scored.name, name)) in p_values]
    return min(candidates, default=None)


def _statement(level: str, attack: str, metric: str, estimate: Estimate, *, leaks: bool) -> str:
    if metric == AUC:
        return picks(level, attack, estimate, found=leaks)
    return names(level, attack, metric, estimate, found=leaks)


def _discrepancy(level: Level, judging: LevelJudging) -> tuple[list[Finding], list[str]]:
    """The discrepancy of the level, or the reason why it is refused; neither where it is not measured."""
    if level.together is None:
        return [], []
    confidence = 1 - DISCREPANCY_SHARE * judging.miss
    finding, reason = discrepancy_finding(level, level.together, confidence=confidence, seed=judging.seed)
    if finding is None:
        return [], [reason]
    return [replace(finding, notes=(*_notes(level, None, judging.confounded), *finding.notes))], []


def _notes(level: Level, scored: AttackScores | None, confounded: bool) -> tuple[str, ...]:
    warning = ("the split is confounded: this is no evidence of leakage",) if confounded else ()
    return (*warning, level.what, *(scored.notes if scored is not None else ()))


def _power(level: Level, tests: LevelTests, share: float, effect: float) -> tuple[Power, ...]:
    rest = tests.error_of("rest", share) / max(1, tests.count_of("rest"))
    return detectable(
        level,
        error=tests.error_of("primary", share) or rest,
        rest=rest,
        effect=effect,
        smallest_p=tests.smallest,
    )
