# SPDX-License-Identifier: Apache-2.0
"""From findings to one answer in plain words, and to what the audit cannot say."""

from __future__ import annotations

from collections.abc import Sequence

from reticent.auditing.leak_level import LeakLevel
from reticent.core.finding import Finding, Severity
from reticent.core.results import Confound, Power, Verdict
from reticent.report.sentences import without_the_model, would_have_been_seen

BROKEN = "promise_broken"
"""Metric of a finding that more was shown than differential privacy promised."""

NAMED_AT = ("tpr@0.01", "tpr@0.1")
"""True positive rates that the verdict says beside an AUC."""

ITSELF = (
    "The model was compared with itself (target and reference have the same weights): attacks that compare the two "
    "could not have seen anything. Give the model that it was tuned from (--reference)."
)

ORDER = [Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM, Severity.LOW, Severity.NONE]


def severity(metric: str, lo: float, *, p: float | None = None, error: float = 0.05) -> Severity:
    """How much a finding matters, judged by what is certain: the interval's lower end ``lo``.

    Where there is a test, it decides whether anything was found: none above ``error``, at least low below it.

    AUC: an attacker who tells members from others with certainty above 0.9 / 0.75 / 0.6 / 0.5.
    TPR at FPR f: f·30 / f·10 / f·3 / f: how many times more often than chance the attacker is right.
    Advantage (TPR less FPR): 0.65 / 0.35 / 0.15 / 0, about what the same AUC gives for Gaussian scores.
    Extracted share: more than 0.3 / 0.1 / 0.02 / 0 of the secrets come out of this model and not otherwise.
    Exposure: 10 / 5 / 3 / 1 bits: the secret is among the first 2^-bits of all possible ones.
    ε: 8 / 4 / 1 / 0 nats. The steps are this project's convention, not a law of nature.
    """
    steps = _steps(metric)
    found = next((name for step, name in zip(steps, ORDER[:4], strict=True) if lo > step), Severity.NONE)
    if p is None:
        return found
    if p > error:
        return Severity.NONE
    return Severity.LOW if found is Severity.NONE else found


def verdict(
    findings: Sequence[Finding],
    confound: Confound,
    power: Sequence[Power],
    *,
    levels: Sequence[LeakLevel],
    itself: bool = False,
) -> Verdict:
    """The headline. Confounded data make no membership claim; too few units make none either.

    Args:
        findings: judged.
        confound: what can be told without any model.
        power: what could have been seen.
        levels: meanings of the levels of findings, in the order of the headline.
        itself: the model was compared with itself, so attacks that compare see nothing whatever it gives away.
    """
    randomized = {level.name for level in levels if level.randomized}
    if confound.separable:
        assert confound.blind_auc is not None
        return Verdict(
            status="confounded",
            headline=_beforehand(findings, levels)
            + "Confounded: members and held-out records can be told apart without the model.",
            sentences=(
                without_the_model(confound.blind_auc),
                "No membership claim can be made from this split: what looks like leakage may be the data.",
                "Split one pool by coin (reticent tune does), or give held-out records from the same source and time.",
                *(finding.statement for finding in findings if finding.level in randomized),
            ),
        )
    if confound.unchecked:
        return Verdict(
            status="underpowered",
            headline=_beforehand(findings, levels)
            + "No answer: whether the lists differ without the model was not to be seen.",
            sentences=(
                confound.note,
                "No membership claim can be made from lists that were not checked: what looks like leakage may be the "
                "data. Give at least 20 members and 20 held-out records of the same source and time.",
                *(finding.statement for finding in findings if finding.level in randomized),
            ),
        )
    sure = [finding for finding in findings if finding.severity is not Severity.NONE]
    broken = [finding for finding in sure if finding.metric == BROKEN]
    if broken:
        leaks = _leaks([finding for finding in sure if finding.metric != BROKEN], levels)
        return Verdict(
            status="leaks",
            headline="The privacy promise is broken: this model gives away more than it allows.",
            sentences=(broken[0].statement, *leaks.sentences),
        )
    if sure:
        return _leaks(sure, levels)
    seen = [row for row in power if row.smallest < float("inf")]
    if not seen:
        return Verdict(
            status="underpowered",
            headline="No answer: too few units to detect any leakage.",
            sentences=("Give more members and more held-out records of the same source.",),
        )
    return Verdict(
        status="not_detected",
        headline="No leakage detected by the attacks that were run.",
        sentences=(
            *((ITSELF,) if itself else ()),
            *(would_have_been_seen(row) for row in seen),
            "This is no proof of safety: a stronger attack may exist.",
        ),
    )


def _beforehand(findings: Sequence[Finding], levels: Sequence[LeakLevel]) -> str:
    """Sentences that hold whatever the two sides of the split are like."""
    leaking = {finding.level for finding in findings if finding.severity is not Severity.NONE}
    sentences = [level.headline for level in levels if level.headline and level.name in leaking]
    return " ".join([*sentences, "Of membership nothing can be said. "]) if sentences else ""


def _leaks(sure: Sequence[Finding], levels: Sequence[LeakLevel]) -> Verdict:
    words = {level.name: level.words for level in levels}
    worst = [
        min((finding for finding in sure if finding.level == name), key=_rank)
        for name in words
        if any(finding.level == name for finding in sure)
    ]
    *others, last = (f"{words[finding.level]} ({finding.severity} severity)" for finding in worst)
    what = f"{', '.join(others)} and {last}" if others else last
    return Verdict(
        status="leaks",
        headline=f"This model gives away what it was trained on: {what}.",
        sentences=tuple(finding.statement for first in worst for finding in (first, *_beside(first, sure))),
    )


def _beside(first: Finding, sure: Sequence[Finding]) -> list[Finding]:
    """Of records and users the other way to say it: how many are named at the lowest rate of false alarms that could
    be looked at, beside how often one of two is told, and the other way round."""
    if first.level not in ("record", "user"):
        return []
    is_auc = first.metric == "auc"
    found = [one for one in sure if one.level == first.level and (one.metric == "auc") != is_auc]
    if is_auc:
        rates = {one.metric: float(one.metric.removeprefix("tpr@")) for one in found if one.metric in NAMED_AT}
        found = [one for one in found if rates and one.metric == min(rates, key=lambda metric: rates[metric])]
    return [max(found, key=lambda one: one.estimate.value)] if found else []


def _rank(finding: Finding) -> tuple[int, bool, float]:
    """The most severe first; of equals an AUC, and the largest."""
    return (ORDER.index(finding.severity), finding.metric != "auc", -finding.estimate.value)


def _steps(metric: str) -> tuple[float, ...]:
    if metric.startswith("tpr@"):
        fpr = float(metric.removeprefix("tpr@"))
        return tuple(min(times * fpr, top) for times, top in ((30, 0.9), (10, 0.6), (3, 0.3), (1, 1.0)))
    if metric == "auc":
        return (0.9, 0.75, 0.6, 0.5)
    if metric == "advantage":
        return (0.65, 0.35, 0.15, 0.0)
    if metric == "exposure_bits":
        return (10.0, 5.0, 3.0, 1.0)
    if metric == "extracted":
        return (0.3, 0.1, 0.02, 0.0)
    if metric == "epsilon_lower":
        return (8.0, 4.0, 1.0, 0.0)
    raise ValueError(f"metric {metric!r} has no severity steps")
