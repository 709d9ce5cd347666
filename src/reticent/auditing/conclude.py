# SPDX-License-Identifier: Apache-2.0
"""From evidence to results: pure, no model and no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from reticent.auditing.canaries import evaluate as planted
from reticent.auditing.case import Subject, counts
from reticent.auditing.config import AuditConfig
from reticent.auditing.error_budget import parts_of_error
from reticent.auditing.extraction.collect import Pulled
from reticent.auditing.extraction.evaluate import extraction_findings, judge_extraction
from reticent.auditing.guarantee.epsilon_bounds import (
    CONDITIONAL,
    Bounds,
    Thrown,
    all_thrown,
    epsilon_bounds,
    epsilon_finding,
)
from reticent.auditing.guarantee.evaluate import Kept, audit_promise, broken_findings, proved_unit
from reticent.auditing.identifiers.evaluate import Identified, judge_identifiers
from reticent.auditing.membership.collect import Evidence
from reticent.auditing.membership.evaluate import Judging, LevelOutcome, PValues, judge
from reticent.auditing.membership.levels import Units, canary_users, record_level, user_level
from reticent.auditing.membership.most_exposed import exposed
from reticent.auditing.membership.select import Choice, listed
from reticent.auditing.membership.significance import Tests, adjusted, described, significance
from reticent.auditing.membership.users import user_evidence
from reticent.auditing.pii.evaluate import judge_personal_data
from reticent.auditing.pii.evidence import Asked
from reticent.auditing.verdict import verdict
from reticent.core.finding import Finding
from reticent.core.manifest import environment, now
from reticent.core.results import CanaryExposure, Confound, Exposed, Extraction, LevelTest, PromiseAudit, Results
from reticent.report.scope import untried


def conclude(
    subject: Subject,
    models: Mapping[str, Any],
    choice: Choice,
    evidence: Evidence,
    confound: Confound,
    config: AuditConfig,
    *,
    key: str,
    kept: Kept | None = None,
    pulled: Pulled | None = None,
    asked: Asked | None = None,
    identified: Identified | None = None,
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
    levels = _levels(subject, evidence, config.seed)
    thrown = _thrown(subject, levels, evidence, kept, config, confounded=confound.no_claim)
    kinds = sum(one is not None for one in (pulled, asked))
    decided = _decided(
        subject, levels, evidence, config, epsilon=bool(thrown), extraction=kinds, identifiers=identified is not None
    )
    outcomes = [_judged(units, decided, confound, config) for units in levels]
    exposure = _exposure(subject, evidence, decided.confidence("tiers"), config.confidence)
    bounds = _bounds(thrown, kept, config, decided.confidence("epsilon"))
    extraction = _extraction(pulled, asked, decided.confidence("extraction", kinds), config.confidence)
    named, unnamed = _identified(identified, decided.confidence("identifiers"))
    found = (
        *named,
        *(extraction_findings(extraction, confounded=confound.no_claim) if extraction is not None else ()),
        *(finding for outcome in outcomes for finding in outcome.findings),
        *planted.findings(exposure, decided.p_tiers, decided.error),
        *(epsilon_finding(bound) for bound in bounds.found),
    )
    findings = tuple(_jointly(finding, config.confidence) for finding in found)
    promise = _promise(kept, bounds, findings, subject, levels, confounded=confound.no_claim)
    if promise is not None:
        findings = (*broken_findings(promise, bounds.found, findings), *findings)
    power = tuple(row for outcome in outcomes for row in outcome.power)
    results = Results(
        title=subject.title,
        created=now(),
        verdict=verdict(findings, confound, power, itself=_itself(models)),
        findings=findings,
        attacks=listed(choice, evidence.notes, [scored for units in levels for scored in units.level.attacks]),
        curves=tuple(curve for outcome in outcomes for curve in outcome.curves if curve.level != "canary"),
        distributions=tuple(row for outcome in outcomes for row in outcome.distributions if row.level != "canary"),
        exposure=exposure,
        exposed=tuple(_exposed(levels, outcomes, key, _texts(subject, config))),
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
        counts=counts(subject) | {"dropped_without_tokens": evidence.dropped},
        provenance=_provenance(subject, models, config),
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
    tests: Mapping[str, Tests]
    p_values: PValues
    p_tiers: Sequence[float]

    def confidence(self, kind: str, of: int = 1) -> float:
        """Of the intervals of a kind of finding, which ``of`` of them share."""
        return 1 - self.parts.get(kind, self.error) / max(of, 1)

    def described(self, levels: Sequence[Units]) -> tuple[LevelTest, ...]:
        """For the report."""
        return tuple(
            described(units.level, self.tests[name], self.p_values, self.parts[name])
            for units in levels
            if (name := units.level.name) in self.tests
        )


def _decided(
    subject: Subject,
    levels: Sequence[Units],
    evidence: Evidence,
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
    tiers = _tiers(subject, evidence)
    parts = parts_of_error(
        error,
        levels=tests,
        coins=subject.membership.unit,
        tiers=bool(tiers),
        epsilon=epsilon,
        extraction=extraction,
        identifiers=identifiers,
    )
    p_values, p_tiers = adjusted(tests, [tier.p for tier in tiers], parts)
    return _Decided(error=error, parts=parts, tests=tests, p_values=p_values, p_tiers=p_tiers)


def _judged(units: Units, decided: _Decided, confound: Confound, config: AuditConfig) -> LevelOutcome:
    name = units.level.name
    judging = Judging(
        p_values=decided.p_values,
        error=decided.error,
        miss=decided.parts.get(name, decided.error),
        confounded=confound.no_claim,
        seed=config.seed,
    )
    return judge(units.level, decided.tests.get(name), judging)


def _jointly(finding: Finding, confidence: float) -> Finding:
    """With the probability that all intervals of the report hold; a bound that stands by itself has none."""
    if finding.metric == CONDITIONAL:
        return finding
    return replace(finding, estimate=replace(finding.estimate, joint=confidence))


def _identified(identified: Identified | None, confidence: float) -> tuple[Sequence[Finding], Sequence[str]]:
    return ((), ()) if identified is None else judge_identifiers(identified, confidence=confidence)


def _promise(
    kept: Kept | None,
    bounds: Bounds,
    findings: Sequence[Finding],
    subject: Subject,
    levels: Sequence[Units],
    *,
    confounded: bool,
) -> PromiseAudit | None:
    if kept is None:
        return None
    return audit_promise(
        kept,
        bounds.found,
        findings,
        subject.membership,
        confounded=confounded,
        held_out={units.level.name: units.level.n_held_out for units in levels},
    )


def _provenance(subject: Subject, models: Mapping[str, Any], config: AuditConfig) -> dict[str, Any]:
    return {
        "models": {"target": subject.title} | dict(models),
        "data": {"fingerprint": subject.data_fingerprint, "unit": subject.membership.unit},
        "training": subject.about,
        "audit": asdict(config),
        "environment": environment(),
    }


def _exposed(
    levels: Sequence[Units], outcomes: Sequence[LevelOutcome], key: str, texts: Mapping[str, str]
) -> Iterator[Exposed]:
    for units, outcome in zip(levels, outcomes, strict=True):
        if outcome.best is not None and units.level.name != "canary":
            yield from exposed(units.level, outcome.best, units.ids, key, texts)


def _extraction(pulled: Pulled | None, asked: Asked | None, confidence: float, joint: float) -> Extraction | None:
    if pulled is None:
        return None
    found = judge_extraction(pulled, confidence=confidence, joint=joint)
    if asked is None:
        return found
    rows, notes = judge_personal_data(asked, confidence=confidence, joint=joint)
    return replace(found, rows=(*found.rows, *rows), notes=(*found.notes, *notes))


def _levels(subject: Subject, evidence: Evidence, seed: int) -> list[Units]:
    levels = [record_level(evidence, seed=seed)]
    users = user_evidence(evidence.coins)
    if users is not None:
        levels.append(user_level(evidence, users))
    planted_users = canary_users(evidence)
    if planted_users is not None:
        levels.append(planted_users)
    return levels


def _thrown(
    subject: Subject,
    levels: Sequence[Units],
    evidence: Evidence,
    kept: Kept | None,
    config: AuditConfig,
    *,
    confounded: bool,
) -> list[Thrown]:
    """Whatever had fair coins of its own."""
    by_user = kept is not None and kept.promise.unit == "user" and subject.membership.has_users
    return all_thrown(
        levels,
        subject.canaries,
        evidence,
        secret_unit="user" if by_user else "record",
        confounded=confounded,
        named=config.primary,
    )


def _bounds(thrown: Sequence[Thrown], kept: Kept | None, config: AuditConfig, confidence: float) -> Bounds:
    """Lower bounds on ε, at the δ of the promise where there is one."""
    return epsilon_bounds(
        thrown,
        delta=config.delta if kept is None else kept.promise.delta,
        confidence=confidence,
        joint=config.confidence,
        gaussian=None if kept is None else proved_unit(kept.promise),
    )


def _tiers(subject: Subject, evidence: Evidence) -> Sequence[planted.TierTest]:
    if evidence.canaries is None:
        return ()
    return planted.tier_tests(subject.canaries, planted.nll(evidence.canaries))


def _exposure(subject: Subject, evidence: Evidence, confidence: float, joint: float) -> tuple[CanaryExposure, ...]:
    if evidence.canaries is None:
        return ()
    tiers = planted.exposures(subject.canaries, planted.nll(evidence.canaries), confidence=confidence)
    return tuple(replace(tier, bits=replace(tier.bits, joint=joint)) for tier in tiers)


def _itself(models: Mapping[str, Any]) -> bool:
    """Whether the model was compared with its own weights."""
    target, reference = models.get("target_fingerprint"), models.get("reference_fingerprint")
    return target is not None and target == reference


def _texts(subject: Subject, config: AuditConfig) -> Mapping[str, str]:
    return {record.id: record.plain for record in subject.records} if config.show_text else {}
