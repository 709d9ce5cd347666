# SPDX-License-Identifier: Apache-2.0
"""What recorded coins prove about ε: lower bounds from this one run, for whatever had fair coins of its own.

One bound of each kind of units is the *primary* one, named before any score is seen. It alone shares in the report's
joint confidence, has a severity and can break a promise; so it must hold whatever the training did. Bounds that rest on
the coins alone do: what was right of the guesses is bounded however units interact. Without a promise that is the
one-run bound for (ε, δ); against a promise with a curve it is the one for Gaussian mechanisms, since that curve, not
only its ε, is what was promised. The others are shown beside it, each by itself with what it assumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.auditing.canaries import evaluate as planted
from reticent.auditing.canaries.collect import CanaryEvidence
from reticent.auditing.membership.level import AttackScores, Level
from reticent.auditing.membership.levels import LevelUnits
from reticent.auditing.membership.primary import primary_of
from reticent.auditing.verdict import severity
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.core.membership import Membership
from reticent.data.canaries import Canary
from reticent.stats.epsilon import epsilon_clopper_pearson, epsilon_gdp_one_run, epsilon_gdp_roc, epsilon_one_run
from reticent.stats.epsilon_auc import epsilon_gdp_auc
from reticent.stats.hypothesis import family_confidence
from reticent.stats.one_run import guesses_a_side

CONDITIONAL = "epsilon_if"
"""Metric of a bound that holds by itself, if what it assumes does: no part of the verdict or its joint confidence."""
FEWEST = 10
"""Fewer units than this are not guessed at."""

WORDS = {"record": "records", "user": "users", "canary": "canary users"}


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomizedUnits:
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
    scored: AttackScores
    confounded: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class EpsilonBound:
    """One lower bound on ε, before it is put into words.

    Args:
        thrown: the units it is made from.
        estimate: the number.
        assumption: under which it holds, besides the coins.
        gaussian: whether it is a bound on the μ of Gaussian differential privacy first.
        primary: whether it was named beforehand as the one that counts.
    """

    thrown: RandomizedUnits
    estimate: Estimate
    assumption: str
    gaussian: bool
    primary: bool


class EpsilonBounds(NamedTuple):
    """What could be bounded, and which bounds had to be refused and why."""

    found: tuple[EpsilonBound, ...]
    refused: tuple[str, ...]


def randomized_level(
    level: Level, *, unit: str, probability: float, confounded: bool, named: str = ""
) -> RandomizedUnits | None:
    """The units of a level, if fair coins were thrown for just these; a level of canary users had the users' coins.

    Args:
        unit: what the coins were thrown for; another level's units had no coins of their own.
        probability: of the coins; the bounds need 1/2.
        confounded: whether the data are.
        named: the primary attack, where a person chose it. What learned from the coins themselves guesses none.
    """
    by_name = {scored.name: scored for scored in level.attacks if scored.second is None}
    chosen = by_name.get(primary_of(level.name, by_name, named))
    own = "user" if level.name == "canary" else level.name
    if unit != own or probability != 0.5 or chosen is None or not _enough(level.member):
        return None
    return RandomizedUnits(
        units=WORDS[level.name],
        level=level.name,
        unit=own,
        member=level.member,
        scored=chosen,
        confounded=confounded,
    )


def randomized_secrets(
    canaries: Sequence[Canary], evidence: CanaryEvidence | None, *, unit: str
) -> RandomizedUnits | None:
    """Planted secrets as units: one record each, or with all copies one made-up user each.

    Their score is the gain in mean log-likelihood over the reference; without one, the log-likelihood itself. It is no
    matter whether the data are confounded: a secret has the form of those that were left out.

    Args:
        canaries: in the order of the tables in ``evidence``.
        unit: ``"record"`` takes the secrets that are planted once; ``"user"`` all, if they are users of their own.
    """
    if evidence is None:
        return None
    once = unit == "user" or np.array([canary.repetitions == 1 for canary in canaries])
    rows = np.array([not canary.is_control and canary.probability == 0.5 for canary in canaries]) & once
    member = np.array([canary.planted for canary in canaries])[rows]
    if not _enough(member):
        return None
    score = -planted.nll(evidence.target)
    if evidence.reference is not None:
        score = score + planted.nll(evidence.reference)
    name, needs = ("canary_loss", ()) if evidence.reference is None else ("canary_ref_diff", ("the base model",))
    threat = ThreatModel(access="logprob", needs=(*planted.THREAT.needs, *needs))
    scored = AttackScores(name=name, score=score[rows], threat=threat, level="canary")
    return RandomizedUnits(
        units="planted secrets", level="canary", unit=unit, member=member, scored=scored, confounded=False
    )


def randomized_units(
    levels: Sequence[LevelUnits],
    membership: Membership,
    canaries: Sequence[Canary],
    evidence: CanaryEvidence | None,
    *,
    secret_unit: str,
    confounded: bool,
    named: str = "",
) -> list[RandomizedUnits]:
    """Everything in an audit that had fair coins of its own.

    Args:
        levels: of records and users.
        membership: with what coins were thrown for.
        canaries: in the order of the tables in ``evidence``.
        evidence: tables of the canaries; None without any.
        secret_unit: what a planted secret is, see `randomized_secrets`.
        confounded: whether the data are.
        named: see `randomized_level`.
    """
    found = [
        randomized_level(
            units.level, unit=membership.unit, probability=membership.probability, confounded=confounded, named=named
        )
        for units in levels
    ]
    return [one for one in (*found, randomized_secrets(canaries, evidence, unit=secret_unit)) if one is not None]


def epsilon_bounds(
    thrown: Sequence[RandomizedUnits],
    *,
    delta: float,
    confidence: float,
    joint: float = 0.95,
    gaussian: str | None = None,
) -> EpsilonBounds:
    """Lower bounds on ε for each kind of units: a primary one, and others that each hold by themselves.

    Args:
        delta: of the (ε, δ) that is bounded.
        confidence: of all primary bounds together.
        joint: of the whole report, and of each other bound by itself.
        gaussian: the unit for which a Gaussian curve is promised (`reticent.auditing.guarantee.evaluate.proved_unit`):
            for it the bound for Gaussian mechanisms is the primary one.
    """
    each = family_confidence(confidence, max(1, len(thrown)))
    found: list[EpsilonBound] = []
    refused: list[str] = []
    for one in thrown:
        for way in WAYS:
            primary = way.membership and way.gaussian == (gaussian == one.unit)
            try:
                estimate = _bound(way, one, delta, each if primary else joint)
            except BadInput as error:
                what = "ε in one run" if way.membership else f"ε ({way.assumption})"
                refused.append(f"{what}, from {one.units}: {error.given}: {error.why}. {error.fix}")
                continue
            found.append(
                EpsilonBound(
                    thrown=one,
                    estimate=replace(estimate, joint=joint) if primary else estimate,
                    assumption=way.assumption,
                    gaussian=way.gaussian,
                    primary=primary,
                )
            )
    return EpsilonBounds(tuple(found), tuple(dict.fromkeys(refused)))


def _enough(member: npt.NDArray[np.bool_]) -> bool:
    return len(member) >= FEWEST and bool(member.any()) and not bool(member.all())


class _Way(NamedTuple):
    """One way to bound ε."""

    assumption: str
    gaussian: bool
    membership: bool
    """It rests on the coins alone, and holds however units interact."""
    bound: Callable[..., Estimate]
    options: dict[str, bool]


WAYS = (
    _Way("no assumption on the training", False, True, epsilon_one_run, {}),
    _Way("assumes Gaussian noise", True, True, epsilon_gdp_one_run, {}),
    _Way("assumes that units do not interact", False, False, epsilon_clopper_pearson, {}),
    _Way("assumes Gaussian noise and that units do not interact; by error rates", True, False, epsilon_gdp_roc, {}),
    _Way("assumes Gaussian noise and that units do not interact; by the AUC", True, False, epsilon_gdp_auc, {}),
    _Way("assumes Gaussian noise that two units may share; by the AUC", True, False, epsilon_gdp_auc, {"pairs": True}),
)
"""The primary bound is one of the first two."""


def _bound(way: _Way, thrown: RandomizedUnits, delta: float, confidence: float) -> Estimate:
    score, member = thrown.scored.score, thrown.member
    guesses = guesses_a_side(len(member))
    options = {"k_plus": guesses, "k_minus": guesses} if way.membership else way.options
    return way.bound(score[member], score[~member], delta=delta, unit=thrown.unit, confidence=confidence, **options)


def _statement(bound: EpsilonBound) -> str:
    estimate, said = bound.estimate, f"{bound.thrown.units}; {bound.assumption}"
    if estimate.value == 0:
        return f"No lower bound on ε above 0 {estimate.unit} could be shown ({said})."
    if bound.primary:
        return f"Whatever privacy was claimed, ε is at least {estimate.value:.2f} {estimate.unit} ({said})."
    return f"If what it assumes holds, ε is at least {estimate.value:.2f} {estimate.unit} ({said})."


def epsilon_finding(bound: EpsilonBound) -> Finding:
    """The bound as a finding. Only a primary bound has a severity."""
    thrown, estimate = bound.thrown, bound.estimate
    counts = bound.primary and not thrown.confounded
    alone = f"by itself at {estimate.confidence:.0%}: it has no part in the verdict or in the joint confidence"
    return Finding(
        attack=thrown.scored.name,
        level=thrown.level,
        metric="epsilon_lower" if bound.primary else CONDITIONAL,
        estimate=estimate,
        severity=severity("epsilon_lower", estimate.lo) if counts else Severity.NONE,
        threat=thrown.scored.threat,
        statement=_statement(bound),
        advice="Train with differential privacy if a bound on ε is owed." if estimate.value > 0 else "",
        notes=(estimate.method, f"from {thrown.units}: {bound.assumption}", *(() if bound.primary else (alone,))),
    )
