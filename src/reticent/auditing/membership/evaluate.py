# SPDX-License-Identifier: Apache-2.0
"""Scores of one level (records or users) → findings, curves, distributions, power and what had to be refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reticent.auditing.error_budget import Claim, allot
from reticent.auditing.membership.curves import curve, distribution
from reticent.auditing.membership.detectable import detectable
from reticent.auditing.membership.level import FPRS, MIN_UNITS, AttackScores, Level
from reticent.auditing.membership.significance import AUC, TOP, LevelTests, by_statistic, significance, top
from reticent.auditing.verdict import severity
from reticent.core.errors import Underpowered
from reticent.core.finding import ACCESS, Estimate, Finding, Severity, ThreatModel
from reticent.core.results import Curve, Distribution, Power
from reticent.report.sentences import names, picks
from reticent.stats.discrepancy import discrepancy
from reticent.stats.joint import (
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

DISCREPANCY = "discrepancy"
"""What a finding about all attacks of a level together is called."""
DISCREPANCY_SHARE = 0.1
"""Of the misses that the intervals of a level are allowed."""

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
    """How the findings of a level are judged.

    Args:
        p_values: of everything tested.
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
    """What came out for one level."""

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

    What leaks is decided by ``judging.p_values``; how much, by intervals that all hold together.

    Args:
        level: units and scores.
        tests: what was held against re-thrown coins; None where there are too few units.
        judging: p-values and errors.
    """
    if tests is None:
        reason = f"{level.name} level: {level.n_member} members and {level.n_held_out} held-out; needs {MIN_UNITS} each"
        return replace(NOTHING, refused=(reason,))
    numbers, refused = _numbers(level)
    miss = judging.miss if level.together is None else judging.miss * (1 - DISCREPANCY_SHARE)
    estimates = together(list(numbers.values()), confidence=1 - miss, seed=judging.seed)
    shown = dict(zip(numbers, estimates, strict=True))
    aucs = {scored.name: shown[scored.name, AUC] for scored in level.attacks if (scored.name, AUC) in shown}
    best = max(
        (scored for scored in level.attacks if scored.name in aucs),
        key=lambda scored: (aucs[scored.name].lo, aucs[scored.name].value),
        default=None,
    )
    by_name = {scored.name: scored for scored in level.attacks}
    findings = [_finding(level, by_name[name], metric, estimate, judging) for (name, metric), estimate in shown.items()]
    if level.together is not None:
        found, why_not = _discrepancy(level, level.together, judging)
        findings += found
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
    >>> [(one.metric, str(one.severity), one.p_value < 0.01) for one in judge_alone(level).findings]
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
    """By attack and metric, AUCs first; and what there are too few units for."""
    of = sides(level.member, level.cluster)
    found: dict[tuple[str, str], Number] = {}
    refused: list[str] = []
    for scored in level.attacks:
        try:
            found[scored.name, AUC] = _number(level, scored, of, None)
        except Underpowered as error:
            refused.append(f"{level.name} level, {scored.name}: {error.given}: {error.why}. {error.fix}")
    for fpr in level.fprs:
        for scored in level.attacks:
            try:
                found[scored.name, f"tpr@{fpr:g}"] = _number(level, scored, of, fpr)
            except Underpowered as error:
                refused.append(f"{level.name} level, TPR of {scored.name} at {fpr:.1%} FPR: {error.why}. {error.fix}")
    return found, [*refused, *_too_low(level)]


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
        statement=_statement(level.name, scored.name, metric, estimate, found=weight is not Severity.NONE),
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
    found = [p_values[key] for name in names if (key := (level.name, scored.name, name)) in p_values]
    return min(found, default=None)


def _statement(level: str, attack: str, metric: str, estimate: Estimate, *, found: bool) -> str:
    if metric == AUC:
        return picks(level, attack, estimate, found=found)
    return names(level, attack, metric, estimate, found=found)


def _discrepancy(level: Level, scores: Scores, judging: LevelJudging) -> tuple[Sequence[Finding], Sequence[str]]:
    """The advantage of a polytope in the space of all scores, or why it is not given. It describes; it is no test."""
    clusters: tuple[npt.NDArray[np.str_] | None, npt.NDArray[np.str_] | None] = (None, None)
    if level.cluster is not None:
        names = level.cluster.astype(str)
        clusters = names[level.member], names[~level.member]
    try:
        found = discrepancy(
            scores[level.member],
            scores[~level.member],
            member_cluster=clusters[0],
            held_out_cluster=clusters[1],
            confidence=1 - DISCREPANCY_SHARE * judging.miss,
            seed=judging.seed,
        )
    except Underpowered as error:
        return (), [f"{level.name} level, {DISCREPANCY}: {error.given}: {error.why}. {error.fix}"]
    if found.control.lo > 0:
        return (), [f"{DISCREPANCY}: it finds membership in permuted labels ({found.control}), so it is not believed"]
    used = [scored.threat for scored in level.attacks if scored.second is None]
    needs = dict.fromkeys(need for one in used for need in one.needs) | {"records of known membership": None}
    threat = ThreatModel(access=max((one.access for one in used), key=ACCESS.index, default="logits"), needs=(*needs,))
    around = "members" if found.inside == "member" else "held-out units"
    chosen = f"{found.facets} facets around {around}, chosen and fitted on one half, measured on the other"
    control = f"with permuted labels {found.control.value:.3f} [{found.control.lo:.3f}, {found.control.hi:.3f}]"
    return [
        Finding(
            attack=DISCREPANCY,
            level=level.name,
            metric="advantage",
            estimate=found.advantage,
            severity=Severity.NONE,
            threat=threat,
            statement=f"All attacks together: one set of scores holds a {level.name} that was trained on more often "
            f"than one that was not, by {_shown(found.advantage)} (0 is chance, 1 tells them apart).",
            notes=(*_notes(level, None, judging.confounded), chosen, control, "describes, and decides no verdict"),
        )
    ], ()


def _notes(level: Level, scored: AttackScores | None, confounded: bool) -> tuple[str, ...]:
    warning = ("the split is confounded: this is no evidence of leakage",) if confounded else ()
    return (*warning, level.what, *(scored.notes if scored is not None else ()))


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.lo:.3f}, {estimate.hi:.3f}]"


def _power(level: Level, tests: LevelTests, share: float, effect: float) -> tuple[Power, ...]:
    rest = tests.error_of("rest", share) / max(1, tests.count_of("rest"))
    return detectable(
        level,
        error=tests.error_of("primary", share) or rest,
        rest=rest,
        effect=effect,
        smallest_p=tests.smallest,
    )
