# SPDX-License-Identifier: Apache-2.0
"""Lower bounds on ε from this one run, for each kind of units with fair coins of their own.

One bound of each kind of units is the *primary* one, named before any score is seen. It alone shares in the report's
joint confidence, has a severity and can break a promise; so it must hold whatever the training did. Bounds that rest on
the coins alone hold: the number of right guesses is bounded however units interact. Without a promise the primary bound
is the one-run bound for (ε, δ); against a promise with a curve it is the one for Gaussian mechanisms, since the promise
is that whole curve, not only its ε. The other bounds are shown beside it, each by itself with its assumptions.
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
from reticent.auditing.membership.make_levels import LevelUnits
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
"""Metric of a bound that holds by itself, under its assumptions: no part of the verdict or the joint confidence."""
FEWEST = 10
"""Fewer units than this are not guessed at."""

WORDS = {"record": "records", "user": "users", "canary": "canary users"}


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomizedUnits:
    """Units of which each had a fair coin of its own.

    Args:
        units: their name in the report.
        level: of the findings.
        unit: ``"record"`` or ``"user"``: one coin added so much to the training data, or left it out.
        member: ``[U]`` bool, the outcomes of the coins.
        scored: the statistic that guesses the coins.
        confounded: the two sides differ without any model, so something else than the coins made the difference.
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
        randomized: the units it is made from.
        estimate: the number.
        assumption: under which it holds, besides the coins.
        gaussian: True for a bound that is computed from one on the μ of Gaussian differential privacy.
        primary: True for the bound that was named beforehand as the one that counts.
    """

    randomized: RandomizedUnits
    estimate: Estimate
    assumption: str
    gaussian: bool
    primary: bool


class EpsilonBounds(NamedTuple):
    """The bounds, and a line with the reason for each bound that had to be refused."""

    found: tuple[EpsilonBound, ...]
    refused: tuple[str, ...]


def randomized_level(
    level: Level, *, unit: str, probability: float, confounded: bool, named: str = ""
) -> RandomizedUnits | None:
    """The units of a level, where fair coins were thrown for just these; canary users had the users' coins. Else None.

    Args:
        unit: of the split, ``"record"`` or ``"user"``; units of another level had no coins of their own.
        probability: of the coins; the bounds need 1/2.
        confounded: True where the two sides of the data differ without any model.
        named: the primary attack, where a person chose it. Attacks that learned from the coins are not used.
    """
    by_name = {scored.name: scored for scored in level.attacks if scored.second is None}
    chosen = by_name.get(primary_of(level.name, by_name, named))
    coin_unit = "user" if level.name == "canary" else level.name
    if unit != coin_unit or probability != 0.5 or chosen is None or not _enough(level.member):
        return None
    return RandomizedUnits(
        units=WORDS[level.name],
        level=level.name,
        unit=coin_unit,
        member=level.member,
        scored=chosen,
        confounded=confounded,
    )


def randomized_secrets(
    canaries: Sequence[Canary], evidence: CanaryEvidence | None, *, unit: str
) -> RandomizedUnits | None:
    """Planted secrets as units: one record each, or with all copies one made-up user each.

    Their score is the gain in mean log-likelihood over the reference; without one, the log-likelihood itself. They are
    never confounded: secrets that were left out have the same form.

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
    """All kinds of units in an audit that had fair coins of their own.

    Args:
        levels: of records and users.
        membership: with the unit and the probability of the coins.
        canaries: in the order of the tables in ``evidence``.
        evidence: tables of the canaries; None without any.
        secret_unit: the unit of a planted secret, see `randomized_secrets`.
        confounded: True where the two sides of the data differ without any model.
        named: see `randomized_level`.
    """
    of_levels = [
        randomized_level(
            units.level, unit=membership.unit, probability=membership.probability, confounded=confounded, named=named
        )
        for units in levels
    ]
    return [
        group for group in (*of_levels, randomized_secrets(canaries, evidence, unit=secret_unit)) if group is not None
    ]


def epsilon_bounds(
    randomized: Sequence[RandomizedUnits],
    *,
    delta: float,
    confidence: float,
    joint: float = 0.95,
    gaussian: str | None = None,
) -> EpsilonBounds:
    """Lower bounds on ε for each kind of units: a primary one, and others that each hold by themselves.

    Args:
        randomized: the kinds of units.
        delta: of the (ε, δ) that is bounded.
        confidence: of all primary bounds together.
        joint: of the whole report, and of each other bound by itself.
        gaussian: the unit for which a Gaussian curve is promised (`reticent.auditing.guarantee.evaluate.proved_unit`):
            for it the bound for Gaussian mechanisms is the primary one.
    """
    primary_confidence = family_confidence(confidence, max(1, len(randomized)))
    bounds: list[EpsilonBound] = []
    refused: list[str] = []
    for group in randomized:
        for way in WAYS:
            primary = way.membership and way.gaussian == (gaussian == group.unit)
            try:
                estimate = _bound(way, group, delta, primary_confidence if primary else joint)
            except BadInput as error:
                statistic = "ε in one run" if way.membership else f"ε ({way.assumption})"
                refused.append(f"{statistic}, from {group.units}: {error.given}: {error.why}. {error.fix}")
                continue
            bounds.append(
                EpsilonBound(
                    randomized=group,
                    estimate=replace(estimate, joint=joint) if primary else estimate,
                    assumption=way.assumption,
                    gaussian=way.gaussian,
                    primary=primary,
                )
            )
    return EpsilonBounds(tuple(bounds), tuple(dict.fromkeys(refused)))


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


def _bound(way: _Way, group: RandomizedUnits, delta: float, confidence: float) -> Estimate:
    score, member = group.scored.score, group.member
    guesses = guesses_a_side(len(member))
    options = {"k_plus": guesses, "k_minus": guesses} if way.membership else way.options
    return way.bound(score[member], score[~member], delta=delta, unit=group.unit, confidence=confidence, **options)


def _statement(bound: EpsilonBound) -> str:
    estimate, basis = bound.estimate, f"{bound.randomized.units}; {bound.assumption}"
    if estimate.value == 0:
        return f"No lower bound on ε above 0 {estimate.unit} could be shown ({basis})."
    if bound.primary:
        return f"Whatever privacy was claimed, ε is at least {estimate.value:.2f} {estimate.unit} ({basis})."
    return f"If what it assumes holds, ε is at least {estimate.value:.2f} {estimate.unit} ({basis})."


def epsilon_finding(bound: EpsilonBound) -> Finding:
    """The bound as a finding. Only a primary bound has a severity."""
    group, estimate = bound.randomized, bound.estimate
    counts = bound.primary and not group.confounded
    alone = f"by itself at {estimate.confidence:.0%}: it has no part in the verdict or in the joint confidence"
    return Finding(
        attack=group.scored.name,
        level=group.level,
        metric="epsilon_lower" if bound.primary else CONDITIONAL,
        estimate=estimate,
        severity=severity("epsilon_lower", estimate.lo) if counts else Severity.NONE,
        threat=group.scored.threat,
        statement=_statement(bound),
        advice="Train with differential privacy if a bound on ε is owed." if estimate.value > 0 else "",
        notes=(estimate.method, f"from {group.units}: {bound.assumption}", *(() if bound.primary else (alone,))),
    )
