# SPDX-License-Identifier: Apache-2.0
"""From evidence to results: pure, no model and no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from reticent.attacks.selection import AttackSelection
from reticent.auditing.canaries import evaluate as planted
from reticent.auditing.case import AuditCase, counts
from reticent.auditing.config import AuditConfig
from reticent.auditing.error_budget import parts_of_error
from reticent.auditing.extraction import evaluate as extraction_family
from reticent.auditing.extraction.collect import ExtractionEvidence
from reticent.auditing.extraction.evaluate import extraction_findings
from reticent.auditing.guarantee import evaluate as guarantee_family
from reticent.auditing.guarantee.epsilon_bounds import (
    CONDITIONAL,
    EpsilonBounds,
    RandomizedUnits,
    epsilon_bounds,
    epsilon_finding,
    randomized_units,
)
from reticent.auditing.guarantee.evaluate import RecordedGuarantee, proved_unit, violations
from reticent.auditing.identifiers import evaluate as identifiers_family
from reticent.auditing.identifiers.evaluate import IdentifierEvidence
from reticent.auditing.membership import evaluate as membership_family
from reticent.auditing.membership.collect import MembershipEvidence
from reticent.auditing.membership.evaluate import LevelJudging, LevelResult, PValues
from reticent.auditing.membership.levels import LevelUnits, canary_users, record_level, user_level
from reticent.auditing.membership.most_exposed import exposed
from reticent.auditing.membership.select import AttackChoice, listed
from reticent.auditing.membership.significance import LevelTests, adjusted, described, significance
from reticent.auditing.membership.users import user_evidence
from reticent.auditing.pii import evaluate as pii_family
from reticent.auditing.pii.evidence import PiiEvidence
from reticent.auditing.verdict import verdict
from reticent.core.finding import Finding
from reticent.core.manifest import environment, now
from reticent.core.results import CanaryExposure, Confound, ExposedUnit, Extraction, GuaranteeAudit, LevelTest, Results
from reticent.report.scope import untried


def conclude(
    case: AuditCase,
    models: Mapping[str, Any],
    choice: AttackChoice,
    evidence: MembershipEvidence,
    confound: Confound,
    config: AuditConfig,
    *,
    key: str,
    kept: RecordedGuarantee | None = None,
    pulled: ExtractionEvidence | None = None,
    asked: PiiEvidence | None = None,
    identified: IdentifierEvidence | None = None,
) -> Results:
    """Judge every level that can be judged, and say what could not be.

    One error, ``1 - config.confidence``, covers everything that the report claims. It is divided by weights that are
    fixed beforehand over what there is to test: the level that coins were thrown for gets most; kinds that do not exist
    get nothing. Levels and planted secrets are tested against re-thrown coins and pass on what they do not need; ε and
    what was pulled out rest on intervals.

    Args:
        models: what the manifest says of them.
        key: of the hashes that stand for ids.
        kept: what was promised when the target was trained; bounds on ε are then made at its δ.
        pulled: what both models wrote; None: they were not asked to.
        asked: what both models gave of personal data; None: they were not asked for it.
        identified: ranks of identifiers among controls; None: they were not ranked.
    """
    levels = _levels(case, evidence, config.seed)
    thrown = _thrown(case, levels, evidence, kept, config, confounded=confound.no_claim)
    kinds = sum(one is not None for one in (pulled, asked))
    decided = _decided(
        case, levels, evidence, config, epsilon=bool(thrown), extraction=kinds, identifiers=identified is not None
    )
    outcomes = [_judged(units, decided, confound, config) for units in levels]
    exposure = _exposure(case, evidence, decided.confidence("tiers"), config.confidence)
    bounds = _bounds(thrown, kept, config, decided.confidence("epsilon"))
    extraction = _extraction(
        pulled, asked, config.selection, decided.confidence("extraction", kinds), config.confidence
    )
    named, unnamed = _identified(identified, decided.confidence("identifiers"))
    found = (
        *named,
        *(extraction_findings(extraction, confounded=confound.no_claim) if extraction is not None else ()),
        *(finding for outcome in outcomes for finding in outcome.findings),
        *planted.findings(exposure, decided.p_tiers, decided.error),
        *(epsilon_finding(bound) for bound in bounds.found),
    )
    findings = tuple(_jointly(finding, config.confidence) for finding in found)
    promise = _promise(kept, bounds, findings, case, levels, confounded=confound.no_claim)
    if promise is not None:
        findings = (*violations(promise, bounds.found, findings), *findings)
    power = tuple(row for outcome in outcomes for row in outcome.power)
    results = Results(
        title=case.title,
        created=now(),
        verdict=verdict(findings, confound, power, itself=_itself(models)),
        findings=findings,
        attacks=listed(choice, evidence.notes, [scored for units in levels for scored in units.level.attacks]),
        curves=tuple(curve for outcome in outcomes for curve in outcome.curves if curve.level != "canary"),
        distributions=tuple(row for outcome in outcomes for row in outcome.distributions if row.level != "canary"),
        exposure=exposure,
        exposed=tuple(_exposed(levels, outcomes, key, _texts(case, config))),
        confound=confound,
        power=power,
        not_tested=(
            *(line for units in levels for line in units.refused),
            *(line for outcome in outcomes for line in outcome.refused),
            *bounds.refused,
            *unnamed,
            *(f"{name}: {reason}" for name, reason in sorted(choice.off.items())),
            *((f"confounding: {confound.note}",) if confound.blind_auc is None else ()),
            *(() if extraction is None else extraction.notes),
        ),
        counts=counts(case) | {"dropped_without_tokens": evidence.dropped},
        provenance=_provenance(case, models, config),
        promise=promise,
        extraction=extraction,
        tests=decided.described(levels),
    )
    return replace(results, not_tested=(*untried(results), *results.not_tested))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Decided:
    """What re-thrown coins say, and what each kind of finding may err.

    Args:
        error: of the whole report.
        parts: of the error, by kind.
        tests: by level; levels with too few units have none.
        p_values: by level, attack and statistic, adjusted for everything.
        p_tiers: of the planted tiers, likewise.
    """

    error: float
    parts: Mapping[str, float]
    tests: Mapping[str, LevelTests]
    p_values: PValues
    p_tiers: Sequence[float]

    def confidence(self, kind: str, of: int = 1) -> float:
        """Of the intervals of a kind of finding, which ``of`` of them share."""
        return 1 - self.parts.get(kind, self.error) / max(of, 1)

    def described(self, levels: Sequence[LevelUnits]) -> tuple[LevelTest, ...]:
        """For the report."""
        return tuple(
            described(units.level, self.tests[name], self.p_values, self.parts[name])
            for units in levels
            if (name := units.level.name) in self.tests
        )


def _decided(
    case: AuditCase,
    levels: Sequence[LevelUnits],
    evidence: MembershipEvidence,
    config: AuditConfig,
    *,
    epsilon: bool,
    extraction: int,
    identifiers: bool,
) -> _Decided:
    error = 1 - config.confidence
    tests = {
        units.level.name: significance(units.level, named=config.primary, seed=config.seed)
        for units in levels
        if units.level.judged
    }
    tiers = _tiers(case, evidence)
    parts = parts_of_error(
        error,
        levels=tests,
        membership=case.membership.unit,
        tiers=bool(tiers),
        epsilon=epsilon,
        extraction=extraction,
        identifiers=identifiers,
    )
    p_values, p_tiers = adjusted(tests, [tier.p for tier in tiers], parts)
    return _Decided(error=error, parts=parts, tests=tests, p_values=p_values, p_tiers=p_tiers)


def _judged(units: LevelUnits, decided: _Decided, confound: Confound, config: AuditConfig) -> LevelResult:
    name = units.level.name
    judging = LevelJudging(
        p_values=decided.p_values,
        error=decided.error,
        miss=decided.parts.get(name, decided.error),
        confounded=confound.no_claim,
        seed=config.seed,
    )
    return membership_family.evaluate(units.level, decided.tests.get(name), judging)


def _jointly(finding: Finding, confidence: float) -> Finding:
    """With the probability that all intervals of the report hold; a bound that stands by itself has none."""
    if finding.metric == CONDITIONAL:
        return finding
    return replace(finding, estimate=replace(finding.estimate, joint=confidence))


def _identified(identified: IdentifierEvidence | None, confidence: float) -> tuple[Sequence[Finding], Sequence[str]]:
    return ((), ()) if identified is None else identifiers_family.evaluate(identified, confidence=confidence)


def _promise(
    kept: RecordedGuarantee | None,
    bounds: EpsilonBounds,
    findings: Sequence[Finding],
    case: AuditCase,
    levels: Sequence[LevelUnits],
    *,
    confounded: bool,
) -> GuaranteeAudit | None:
    if kept is None:
        return None
    return guarantee_family.evaluate(
        kept,
        bounds.found,
        findings,
        case.membership,
        confounded=confounded,
        held_out={units.level.name: units.level.n_held_out for units in levels},
    )


def _provenance(case: AuditCase, models: Mapping[str, Any], config: AuditConfig) -> dict[str, Any]:
    return {
        "models": {"target": case.title} | dict(models),
        "data": {"fingerprint": case.data_fingerprint, "unit": case.membership.unit},
        "training": case.about,
        "audit": asdict(config),
        "environment": environment(),
    }


def _exposed(
    levels: Sequence[LevelUnits], outcomes: Sequence[LevelResult], key: str, texts: Mapping[str, str]
) -> Iterator[ExposedUnit]:
    for units, outcome in zip(levels, outcomes, strict=True):
        if outcome.best is not None and units.level.name != "canary":
            yield from exposed(units.level, outcome.best, units.ids, key, texts)


def _extraction(
    pulled: ExtractionEvidence | None,
    asked: PiiEvidence | None,
    selection: AttackSelection,
    confidence: float,
    joint: float,
) -> Extraction | None:
    if pulled is None:
        return None
    found = extraction_family.evaluate(
        pulled, confidence=confidence, joint=joint, attacks=selection.of_family("extraction")
    )
    if asked is None:
        return found
    rows, notes = pii_family.evaluate(asked, confidence=confidence, joint=joint, attacks=selection.of_family("pii"))
    return replace(found, rows=(*found.rows, *rows), notes=(*found.notes, *notes))


def _levels(case: AuditCase, evidence: MembershipEvidence, seed: int) -> list[LevelUnits]:
    levels = [record_level(evidence, seed=seed)]
    users = user_evidence(evidence.membership)
    if users is not None:
        levels.append(user_level(evidence, users))
    planted_users = canary_users(evidence)
    if planted_users is not None:
        levels.append(planted_users)
    return levels


def _thrown(
    case: AuditCase,
    levels: Sequence[LevelUnits],
    evidence: MembershipEvidence,
    kept: RecordedGuarantee | None,
    config: AuditConfig,
    *,
    confounded: bool,
) -> list[RandomizedUnits]:
    """Whatever had fair coins of its own."""
    by_user = kept is not None and kept.promise.unit == "user" and case.membership.has_users
    return randomized_units(
        levels,
        case.canaries,
        evidence,
        secret_unit="user" if by_user else "record",
        confounded=confounded,
        named=config.primary,
    )


def _bounds(
    thrown: Sequence[RandomizedUnits], kept: RecordedGuarantee | None, config: AuditConfig, confidence: float
) -> EpsilonBounds:
    """Lower bounds on ε, at the δ of the promise where there is one."""
    return epsilon_bounds(
        thrown,
        delta=config.delta if kept is None else kept.promise.delta,
        confidence=confidence,
        joint=config.confidence,
        gaussian=None if kept is None else proved_unit(kept.promise),
    )


def _tiers(case: AuditCase, evidence: MembershipEvidence) -> Sequence[planted.TierTest]:
    if evidence.canaries is None:
        return ()
    return planted.tier_tests(case.canaries, planted.nll(evidence.canaries))


def _exposure(
    case: AuditCase, evidence: MembershipEvidence, confidence: float, joint: float
) -> tuple[CanaryExposure, ...]:
    if evidence.canaries is None:
        return ()
    tiers = planted.exposures(case.canaries, planted.nll(evidence.canaries), confidence=confidence)
    return tuple(replace(tier, bits=replace(tier.bits, joint=joint)) for tier in tiers)


def _itself(models: Mapping[str, Any]) -> bool:
    """Whether the model was compared with its own weights."""
    target, reference = models.get("target_fingerprint"), models.get("reference_fingerprint")
    return target is not None and target == reference


def _texts(case: AuditCase, config: AuditConfig) -> Mapping[str, str]:
    return {record.id: record.plain for record in case.records} if config.show_text else {}
