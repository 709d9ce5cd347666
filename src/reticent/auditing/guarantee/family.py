# SPDX-License-Identifier: Apache-2.0
"""The guarantee as an audit family: lower bounds on ε from units with coins of their own, beside the promised ε."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain

from reticent.auditing.attack_kind import AttackKind, with_metric
from reticent.auditing.case import AuditCase
from reticent.auditing.config import AuditConfig
from reticent.auditing.error_budget import Allowance, Claim
from reticent.auditing.family import Collection, FamilySection, Judgement, Prepared, family
from reticent.auditing.guarantee import evaluate as evaluating
from reticent.auditing.guarantee.epsilon_bounds import (
    CONDITIONAL,
    RandomizedUnits,
    epsilon_bounds,
    epsilon_finding,
    randomized_units,
)
from reticent.auditing.guarantee.evaluate import RecordedGuarantee, proved_unit, read_guarantee, violations
from reticent.auditing.guarantee.spent_together import spent_together
from reticent.auditing.membership.make_levels import LevelUnits
from reticent.core.run_folder import RunFolder

NAME = "guarantee"
EPSILON = "epsilon"
WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class GuaranteeEvidence:
    """The guarantee on record beside the model.

    Args:
        recorded: the guarantee that it was trained under; None without one.
        together: sentences on the privacy cost of this training together with private ones on the same data.
    """

    recorded: RecordedGuarantee | None
    together: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomizedEvidence:
    """All kinds of units with coins of their own, and the guarantee that they are compared with."""

    guarantee: GuaranteeEvidence
    levels: tuple[LevelUnits, ...]
    randomized: tuple[RandomizedUnits, ...]


def before(config: AuditConfig, case: AuditCase, tuned: RunFolder | None) -> RecordedGuarantee | None:
    """Read the guarantee, so that a broken one is refused before a model is loaded."""
    return read_guarantee(case.target_name)


def collect(audit: Collection) -> GuaranteeEvidence:
    """The guarantee on record, and the cost of other private trainings on the same data."""
    recorded: RecordedGuarantee | None = audit.before[NAME]
    beside = () if recorded is None or audit.tuned is None else spent_together(audit.tuned)
    return GuaranteeEvidence(recorded=recorded, together=beside)


def prepare(evidence: GuaranteeEvidence, judgement: Judgement) -> Prepared:
    """Find all units with fair coins of their own."""
    levels: tuple[LevelUnits, ...] = ()
    if "membership" in judgement.prepared:
        levels = judgement.prepared["membership"].evidence.levels
    canaries = judgement.prepared.get("canaries")
    recorded, case = evidence.recorded, judgement.case
    by_user = recorded is not None and recorded.promise.unit == "user" and case.membership.has_users
    randomized = randomized_units(
        levels,
        case.membership,
        case.canaries,
        None if canaries is None else canaries.evidence.evidence,
        secret_unit="user" if by_user else "record",
        confounded=judgement.confound.no_claim,
        named=judgement.config.primary,
    )
    return Prepared(
        evidence=RandomizedEvidence(guarantee=evidence, levels=levels, randomized=tuple(randomized)),
        claims=(Claim(name=EPSILON, weight=WEIGHT),) if randomized else (),
    )


def evaluate(evidence: RandomizedEvidence, judgement: Judgement, allowance: Allowance) -> FamilySection:
    """Lower bounds on ε, at the δ of the guarantee where there is one, and findings that break it."""
    recorded = evidence.guarantee.recorded
    bounds = epsilon_bounds(
        evidence.randomized,
        delta=judgement.config.delta if recorded is None else recorded.promise.delta,
        confidence=allowance.confidence(EPSILON),
        joint=judgement.config.confidence,
        gaussian=None if recorded is None else proved_unit(recorded.promise),
    )
    findings = tuple(epsilon_finding(bound) for bound in bounds.found)
    section = FamilySection(
        findings=tuple(finding for finding in findings if finding.metric != CONDITIONAL),
        conditional=tuple(finding for finding in findings if finding.metric == CONDITIONAL),
        not_tested=bounds.refused,
    )
    if recorded is None:
        return section
    earlier = tuple(chain.from_iterable(before.findings for before in judgement.sections.values()))
    audited = evaluating.evaluate(
        recorded,
        bounds.found,
        earlier,
        judgement.case.membership,
        confounded=judgement.confound.no_claim,
        held_out={units.level.name: units.level.n_held_out for units in evidence.levels},
    )
    return replace(
        section,
        urgent=violations(audited, bounds.found, earlier),
        fields={"promise": replace(audited, together=evidence.guarantee.together)},
    )


KINDS = (
    AttackKind(
        name="Bound on ε",
        asks="how much privacy the training can have had at most",
        try_it="it needs coins of probability 0.5 that `reticent tune` threw",
        tried=with_metric("epsilon_lower", "epsilon_if"),
    ),
    AttackKind(
        name="Privacy promise",
        asks="whether the model gives away more than differential privacy allows; none was promised",
        try_it="`reticent tune --epsilon 8 --unit user` makes a promise",
        tried=lambda results: results.promise is not None,
    ),
)

GUARANTEE = family(name=NAME, order=60, collect=collect, prepare=prepare, evaluate=evaluate, before=before, kinds=KINDS)
