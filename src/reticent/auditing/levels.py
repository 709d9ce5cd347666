# SPDX-License-Identifier: Apache-2.0
"""Scores of one level (records or users) → findings, curves, distributions, power and what had to be refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from reticent.auditing.verdict import severity
from reticent.core.errors import Underpowered
from reticent.core.finding import ACCESS, Estimate, Finding, Severity, ThreatModel
from reticent.core.results import Curve, Distribution, Power
from reticent.stats.clustered import auc_clustered
from reticent.stats.halves import confidence_of_each, mean_of
from reticent.stats.hypothesis import family_confidence
from reticent.stats.polytope import discrepancy
from reticent.stats.power import smallest_auc, smallest_tpr
from reticent.stats.roc import auc, roc_curve, thin, tpr_at_fpr

Scores = npt.NDArray[np.float64]

FPRS = (0.1, 0.01, 0.001)
MIN_UNITS = 10
"""Fewer members or held-out units than this on a side, and nothing is said about the level."""
MIN_CLUSTERS = 20
"""Fewer users than this, and a bootstrap over users is not to be trusted: records are taken as independent."""
DISCREPANCY = "discrepancy"
"""What a finding about all attacks of a level together is called."""
POWER = 0.8
PERFECT = 0.999
"""An audit that could only have seen this or more could in effect not have seen anything."""

ADVICE = {
    "record": "Train fewer epochs or at a lower learning rate, drop repeated records, or train with differential "
    "privacy; then audit again.",
    "user": "Cap and deduplicate the records of each user, or train with user-level differential privacy; then audit "
    "again.",
    "canary": "Cap the records of each user, or train with user-level differential privacy; then audit again.",
}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One attack's scores of the units of a level.

    Args:
        name: of the attack; with the aggregation for users.
        score: ``[U]``, higher = leaks more.
        threat: who could do this.
        level: of the units that it scores.
        notes: edge cases counted.
        paper: where the attack was published.
        summary: what it computes, in a line.
        second: ``[U]`` bool, for scores that were learned: each half of the units was scored by what was learned on
            the other, so each is judged by itself. None: nothing was learned from labels, or folds were pooled.
    """

    name: str
    score: Scores
    threat: ThreatModel
    level: str = "record"
    notes: tuple[str, ...] = ()
    paper: str = ""
    summary: str = ""
    second: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True)
class Level:
    """The units of one level and every attack on them.

    Args:
        name: ``"record"`` or ``"user"``.
        member: ``[U]`` bool.
        cluster: ``[U]`` who a unit belongs to, for intervals; None when units are independent.
        attacks: the scores.
        what: which units are compared, for the report.
        together: ``[U, A]`` scores of attacks that learned from no label, whose discrepancy is measured; None: it is
            not.
    """

    name: str
    member: npt.NDArray[np.bool_]
    cluster: npt.NDArray[np.object_] | None
    attacks: Sequence[Scored]
    what: str
    together: Scores | None = None

    @property
    def n_member(self) -> int:
        return int(self.member.sum())

    @property
    def n_held_out(self) -> int:
        return int((~self.member).sum())


@dataclass(frozen=True, kw_only=True)
class LevelOutcome:
    """What came out for one level."""

    findings: tuple[Finding, ...]
    curves: tuple[Curve, ...]
    distributions: tuple[Distribution, ...]
    power: tuple[Power, ...]
    refused: tuple[str, ...]
    best: Scored | None
    """The attack whose AUC is certain to be highest (largest lower end of the simultaneous intervals)."""


NOTHING = LevelOutcome(findings=(), curves=(), distributions=(), power=(), refused=(), best=None)


def judge(level: Level, *, confidence: float, confounded: bool, seed: int) -> LevelOutcome:
    """Statistics of every attack on one level.

    All intervals of a level hold together with ``confidence`` (Bonferroni over attacks and metrics), so that picking
    the best of them is honest.
    """
    if min(level.n_member, level.n_held_out) < MIN_UNITS:
        reason = f"{level.name} level: {level.n_member} members and {level.n_held_out} held-out; needs {MIN_UNITS} each"
        return replace(NOTHING, refused=(reason,))
    fprs = [fpr for fpr in FPRS if level.n_held_out >= 10 / fpr]
    family = max(1, len(level.attacks) * (1 + len(fprs)) + (level.together is not None))
    each = family_confidence(confidence, family)
    together = f"; one of {family} intervals of this level that hold together" if family > 1 else ""
    aucs = {scored.name: _tag(_auc(level, scored, each, seed), together) for scored in level.attacks}
    best = max(level.attacks, key=lambda scored: (aucs[scored.name].lo, aucs[scored.name].value), default=None)
    findings = [_auc_finding(level, scored, aucs[scored.name], confounded) for scored in level.attacks]
    refused: list[str] = []
    for fpr in FPRS:
        for scored in level.attacks:
            try:
                estimate = _tpr(level, scored, fpr, each)
            except Underpowered as error:
                who = "" if scored.second is None else ", scores judged by halves"
                refused.append(f"{level.name} level, TPR at {fpr:.1%} FPR{who}: {error.why}. {error.fix}")
                continue
            findings.append(_tpr_finding(level, scored, fpr, _tag(estimate, together), confounded))
    if level.together is not None:
        found, why_not = _discrepancy(level, level.together, each, together, confounded, seed)
        findings += found
        refused += why_not
    return LevelOutcome(
        findings=tuple(findings),
        curves=tuple(_curve(level, scored) for scored in level.attacks),
        distributions=tuple(_distribution(level, scored) for scored in level.attacks),
        power=_power(level, each),
        refused=tuple(dict.fromkeys(refused)),
        best=best,
    )


def _sides(level: Level, score: Scores) -> tuple[Scores, Scores]:
    return score[level.member], score[~level.member]


def _auc(level: Level, scored: Scored, confidence: float, seed: int) -> Estimate:
    if scored.second is None:
        return _plain_auc(level, scored.score, confidence, seed)
    each = confidence_of_each(confidence)
    halves = [(_part(level, half), scored.score[half]) for half in (~scored.second, scored.second)]
    return mean_of([_plain_auc(part, score, each, seed) for part, score in halves], confidence=confidence)


def _tpr(level: Level, scored: Scored, fpr: float, confidence: float) -> Estimate:
    if scored.second is None:
        return tpr_at_fpr(*_sides(level, scored.score), fpr, confidence=confidence)
    each = confidence_of_each(confidence)
    halves = [(_part(level, half), scored.score[half]) for half in (~scored.second, scored.second)]
    parts = [tpr_at_fpr(*_sides(part, score), fpr, confidence=each) for part, score in halves]
    return mean_of(parts, confidence=confidence)


def _part(level: Level, rows: npt.NDArray[np.bool_]) -> Level:
    cluster = None if level.cluster is None else level.cluster[rows]
    return replace(level, member=level.member[rows], cluster=cluster, attacks=(), together=None)


def _plain_auc(level: Level, score: Scores, confidence: float, seed: int) -> Estimate:
    member, held_out = _sides(level, score)
    if level.cluster is None or len(np.unique(level.cluster.astype(str))) < MIN_CLUSTERS:
        return auc(member, held_out, confidence=confidence)
    clusters = level.cluster[level.member], level.cluster[~level.member]
    return auc_clustered(member, held_out, *clusters, confidence=confidence, seed=seed)


def _tag(estimate: Estimate, together: str) -> Estimate:
    return replace(estimate, method=estimate.method + together)


def _auc_finding(level: Level, scored: Scored, estimate: Estimate, confounded: bool) -> Finding:
    return Finding(
        attack=scored.name,
        level=level.name,
        metric="auc",
        estimate=estimate,
        severity=Severity.NONE if confounded else severity("auc", estimate.lo),
        threat=scored.threat,
        statement=f"{scored.name} tells a {level.name} that was trained on from one that was not with an AUC of "
        f"{_shown(estimate)} (0.5 is chance).",
        advice=ADVICE[level.name],
        notes=_notes(level, scored, confounded, "auc"),
    )


def _tpr_finding(level: Level, scored: Scored, fpr: float, estimate: Estimate, confounded: bool) -> Finding:
    metric = f"tpr@{fpr:g}"
    return Finding(
        attack=scored.name,
        level=level.name,
        metric=metric,
        estimate=estimate,
        severity=Severity.NONE if confounded else severity(metric, estimate.lo),
        threat=scored.threat,
        statement=f"With {fpr:.1%} false alarms, {scored.name} identifies {estimate.value:.1%} "
        f"[{estimate.lo:.1%}, {estimate.hi:.1%}] of the {level.name}s that were trained on.",
        advice=ADVICE[level.name],
        notes=_notes(level, scored, confounded, metric),
    )


def _discrepancy(
    level: Level, scores: Scores, confidence: float, together: str, confounded: bool, seed: int
) -> tuple[Sequence[Finding], Sequence[str]]:
    """The advantage of a polytope in the space of all scores, or why it is not given."""
    clusters = (None, None) if level.cluster is None else _sides(level, level.cluster.astype(str))
    try:
        found = discrepancy(
            *_sides(level, scores),
            member_cluster=clusters[0],
            held_out_cluster=clusters[1],
            confidence=confidence,
            seed=seed,
        )
    except Underpowered as error:
        return (), [f"{level.name} level, {DISCREPANCY}: {error.given}: {error.why}. {error.fix}"]
    if found.control.lo > 0:
        return (), [f"{DISCREPANCY}: it finds membership in permuted labels ({found.control}), so it is not believed"]
    estimate = _tag(found.advantage, together)
    used = [scored.threat for scored in level.attacks if scored.second is None]
    needs = dict.fromkeys(need for one in used for need in one.needs) | {"records of known membership": None}
    threat = ThreatModel(access=max((one.access for one in used), key=ACCESS.index, default="logits"), needs=(*needs,))
    around = "members" if found.inside == "member" else "held-out units"
    chosen = f"{found.facets} facets around {around}, chosen and fitted on one half, measured on the other"
    control = f"with permuted labels {found.control.value:.3f} [{found.control.lo:.3f}, {found.control.hi:.3f}]"
    finding = Finding(
        attack=DISCREPANCY,
        level=level.name,
        metric="advantage",
        estimate=estimate,
        severity=Severity.NONE if confounded else severity("advantage", estimate.lo),
        threat=threat,
        statement=f"All attacks together: one set of scores holds a {level.name} that was trained on more often than "
        f"one that was not, by {_shown(estimate)} (0 is chance, 1 tells them apart).",
        advice=ADVICE[level.name],
        notes=(*(_notes(level, None, confounded, "advantage")), chosen, control),
    )
    return [finding], ()


def _notes(level: Level, scored: Scored | None, confounded: bool, metric: str) -> tuple[str, ...]:
    warning = ("the split is confounded: this is no evidence of leakage",) if confounded else ()
    alone = level.cluster is not None and metric.startswith("tpr@")
    apart = ("this interval takes the records of a user as independent",) if alone else ()
    return (*warning, level.what, *apart, *(scored.notes if scored is not None else ()))


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.lo:.3f}, {estimate.hi:.3f}]"


def _curve(level: Level, scored: Scored) -> Curve:
    fpr, tpr = thin(*roc_curve(*_sides(level, scored.score)))
    return Curve(
        attack=scored.name,
        level=level.name,
        fpr=tuple(map(float, fpr)),
        tpr=tuple(map(float, tpr)),
        n_member=level.n_member,
        n_held_out=level.n_held_out,
    )


def _distribution(level: Level, scored: Scored, bins: int = 30) -> Distribution:
    """Histograms between the 0.5 % and 99.5 % quantiles of the finite scores; what lies beyond goes to the end bins."""
    finite = scored.score[np.isfinite(scored.score)]
    lo, hi = np.quantile(finite, [0.005, 0.995]) if finite.size else (0.0, 1.0)
    if lo == hi:
        lo, hi = lo - 0.5, hi + 0.5
    edges = np.linspace(lo, hi, bins + 1)
    member, held_out = (np.histogram(np.clip(side, lo, hi), edges)[0] for side in _sides(level, scored.score))
    return Distribution(
        attack=scored.name,
        level=level.name,
        edges=tuple(map(float, edges)),
        member=tuple(map(int, member)),
        held_out=tuple(map(int, held_out)),
    )


def _power(level: Level, confidence: float) -> tuple[Power, ...]:
    sizes = level.n_member, level.n_held_out
    detectable: dict[str, Callable[[], float]] = {
        "auc": partial(smallest_auc, *sizes, confidence=confidence, power=POWER),
        **{f"tpr@{fpr:g}": partial(smallest_tpr, *sizes, fpr, confidence=confidence, power=POWER) for fpr in FPRS},
    }
    rows: list[Power] = []
    for metric, smallest in detectable.items():
        try:
            effect = smallest()
        except Underpowered:
            continue
        if effect >= PERFECT:
            continue
        n_member, n_held_out = sizes
        rows.append(
            Power(
                level=level.name, metric=metric, smallest=effect, power=POWER, n_member=n_member, n_held_out=n_held_out
            )
        )
    return tuple(rows)
