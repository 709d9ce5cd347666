# SPDX-License-Identifier: Apache-2.0
"""What recorded coins prove about ε: lower bounds from this one run, for whatever had fair coins of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.auditing import planted
from reticent.auditing.evidence import Evidence
from reticent.auditing.level import Level, Scored
from reticent.auditing.scored import Units
from reticent.auditing.verdict import severity
from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.data.canaries import Canary
from reticent.stats.epsilon import epsilon_lower_bounds
from reticent.stats.hypothesis import family_confidence

STATISTIC = {
    "record": ("ref_ratio", "loss"),
    "user": ("ref_ratio:mean", "user_inference", "loss:mean"),
    "canary": ("user_inference",),
}
"""Chosen before the scores are seen: the first that ran. Taking the best one afterwards would break the bound."""
GUESSES = 10
"""A tenth of the units is guessed "in" and a tenth "out", also fixed before."""
BOUNDS = 3
GAUSSIAN = "assumes Gaussian noise"
"""The assumption of the bound that is one on μ first."""
FEWEST = 10
"""Fewer units than this are not guessed at."""

WORDS = {"record": "records", "user": "users", "canary": "canary users"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Thrown:
    """Units of which each had a fair coin of its own.

    Args:
        units: what they are, for the report.
        level: of the findings.
        unit: what one coin added to the training data or left out: ``"record"`` or ``"user"``.
        member: ``[U]`` bool, what came up.
        scored: the statistic that guesses the coins.
        confounded: the two sides differ without any model, so the coins were not what made the difference.
    """

    units: str
    level: str
    unit: str
    member: npt.NDArray[np.bool_]
    scored: Scored
    confounded: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Bound:
    """One lower bound on ε, before it is put into words."""

    thrown: Thrown
    estimate: Estimate
    assumption: str


def thrown_for_level(level: Level, *, unit: str, probability: float, confounded: bool) -> Thrown | None:
    """The units of a level, if fair coins were thrown for just these; a level of canary users had the users' coins.

    Args:
        unit: what the coins were thrown for; another level's units had no coins of their own.
        probability: of the coins; the bounds need 1/2.
        confounded: whether the data are.
    """
    by_name = {scored.name: scored for scored in level.attacks}
    chosen = next((by_name[name] for name in STATISTIC[level.name] if name in by_name), None)
    own = "user" if level.name == "canary" else level.name
    if unit != own or probability != 0.5 or chosen is None or not _enough(level.member):
        return None
    return Thrown(
        units=WORDS[level.name],
        level=level.name,
        unit=own,
        member=level.member,
        scored=chosen,
        confounded=confounded,
    )


def thrown_for_secrets(canaries: Sequence[Canary], evidence: Evidence, *, unit: str) -> Thrown | None:
    """Planted secrets as units: one record each, or with all copies one made-up user each.

    Their score is the gain in mean log-likelihood over the reference; without one, the log-likelihood itself. It is no
    matter whether the data are confounded: a secret has the form of those that were left out.

    Args:
        canaries: in the order of the tables in ``evidence``.
        unit: ``"record"`` takes the secrets that are planted once; ``"user"`` all, if they are users of their own.
    """
    if evidence.canaries is None:
        return None
    once = unit == "user" or np.array([canary.repetitions == 1 for canary in canaries])
    rows = np.array([not canary.is_control and canary.probability == 0.5 for canary in canaries]) & once
    member = np.array([canary.planted for canary in canaries])[rows]
    if not _enough(member):
        return None
    score = -planted.nll(evidence.canaries)
    if evidence.canaries_ref is not None:
        score = score + planted.nll(evidence.canaries_ref)
    name, needs = ("canary_loss", ()) if evidence.canaries_ref is None else ("canary_ref_diff", ("the base model",))
    threat = ThreatModel(access="logprob", needs=(*planted.THREAT.needs, *needs))
    scored = Scored(name=name, score=score[rows], threat=threat, level="canary")
    return Thrown(units="planted secrets", level="canary", unit=unit, member=member, scored=scored, confounded=False)


def all_thrown(
    levels: Sequence[Units], canaries: Sequence[Canary], evidence: Evidence, *, secret_unit: str, confounded: bool
) -> list[Thrown]:
    """Everything in an audit that had fair coins of its own.

    Args:
        secret_unit: what a planted secret is, see `thrown_for_secrets`.
        confounded: whether the data are.
    """
    coins = evidence.coins
    found = [
        thrown_for_level(units.level, unit=coins.unit, probability=coins.probability, confounded=confounded)
        for units in levels
    ]
    return [one for one in (*found, thrown_for_secrets(canaries, evidence, unit=secret_unit)) if one is not None]


def epsilon_bounds(thrown: Sequence[Thrown], *, delta: float, confidence: float) -> list[Bound]:
    """Three lower bounds on ε for each kind of units, all of which hold together.

    Args:
        delta: of the (ε, δ) that is bounded.
        confidence: of all bounds together.
    """
    each = family_confidence(confidence, max(1, BOUNDS * len(thrown)))
    return [bound for one in thrown for bound in _bounds(one, delta, each)]


def _enough(member: npt.NDArray[np.bool_]) -> bool:
    return len(member) >= FEWEST and bool(member.any()) and not bool(member.all())


def _bounds(thrown: Thrown, delta: float, confidence: float) -> list[Bound]:
    score, member = thrown.scored.score, thrown.member
    guesses = max(1, len(member) // GUESSES)
    bounds = epsilon_lower_bounds(
        score[member],
        score[~member],
        delta=delta,
        k_plus=guesses,
        k_minus=guesses,
        unit=thrown.unit,
        confidence=confidence,
    )
    assumed = {
        "no assumption on the training": bounds.one_run,
        GAUSSIAN: bounds.gdp_one_run,
        "assumes that units do not interact": bounds.clopper_pearson,
    }
    return [Bound(thrown=thrown, estimate=bound, assumption=assumption) for assumption, bound in assumed.items()]


def _statement(bound: Bound) -> str:
    estimate, said = bound.estimate, f"{bound.thrown.units}; {bound.assumption}"
    if estimate.value == 0:
        return f"No lower bound on ε above 0 {estimate.unit} could be shown ({said})."
    return f"Whatever privacy was claimed, ε is at least {estimate.value:.2f} {estimate.unit} ({said})."


def epsilon_finding(bound: Bound) -> Finding:
    """The bound as a finding."""
    thrown, estimate = bound.thrown, bound.estimate
    return Finding(
        attack=thrown.scored.name,
        level=thrown.level,
        metric="epsilon_lower",
        estimate=estimate,
        severity=Severity.NONE if thrown.confounded else severity("epsilon_lower", estimate.lo),
        threat=thrown.scored.threat,
        statement=_statement(bound),
        advice="Train with differential privacy if a bound on ε is owed." if estimate.value > 0 else "",
        notes=(estimate.method, f"from {thrown.units}: {bound.assumption}"),
    )
