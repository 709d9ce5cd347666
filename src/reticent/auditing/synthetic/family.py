# SPDX-License-Identifier: Apache-2.0
"""Synthetic text as an audit family: who can be told to have been read, what is told of whom, and what ε that shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from reticent.auditing.attack_kind import AttackKind
from reticent.auditing.canaries import evaluate as planted
from reticent.auditing.case import AuditCase
from reticent.auditing.config import AuditConfig
from reticent.auditing.error_budget import Allowance, Claim
from reticent.auditing.family import Collection, FamilySection, Judgement, Prepared, family
from reticent.auditing.guarantee.epsilon_bounds import RandomizedUnits, randomized_units
from reticent.auditing.leak_level import LeakLevel
from reticent.auditing.membership import evaluate as judging
from reticent.auditing.membership.evaluate import LevelJudging, LevelResult
from reticent.auditing.membership.level import Level
from reticent.auditing.membership.significance import LevelTests, by_statistic, described, significance
from reticent.auditing.synthetic import collect as collecting
from reticent.auditing.synthetic.collect import GAIN, SyntheticEvidence
from reticent.auditing.synthetic.synthetic_file import SyntheticFile, read_synthetic
from reticent.auditing.synthetic.text_epsilon import (
    SECRETS,
    bound_findings,
    bound_table,
    broken,
    level_units,
    secret_units,
    text_bounds,
)
from reticent.auditing.synthetic.text_levels import text_levels, threat
from reticent.auditing.synthetic.told import LEVEL, ToldTest, told_findings, told_section, told_tests
from reticent.core.finding import Finding
from reticent.core.results import AttackRun, Results
from reticent.core.run_folder import RunFolder
from reticent.stats.hypothesis import holm
from reticent.stats.max_t import HypothesisGroup

NAME = "synthetic"
OWN, OTHER, TOLD, TIERS, EPSILON = 4.0, 1.0, 2.0, 1.0, 0.5
"""Weights: of the level that coins were thrown for, of another one, of what is told, of planted secrets, of ε."""
TOLD_CLAIM, TIER_CLAIM, EPSILON_CLAIM = "synthetic disclosures", "synthetic tiers", "synthetic epsilon"
ONE_CHANNEL = (
    "A model was tuned on these texts ({base}) and audited for the records that the texts were made from. What that "
    "finds has passed through the texts, so it is a lower bound through one channel: who has the model that wrote them "
    "may find more, and so may another way to read the texts."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class TestedText:
    """Evidence with all that is tested.

    Args:
        evidence: scores.
        levels: of records and users.
        tests: by level.
        told: tests of what is told of units.
        tiers: tests of planted secrets.
        randomized: units that had fair coins of their own, by the text alone.
        of_auxiliary: the same, by the model that was tuned on the text; none without one.
    """

    evidence: SyntheticEvidence
    levels: tuple[Level, ...]
    tests: Mapping[str, LevelTests]
    told: tuple[ToldTest, ...]
    tiers: tuple[planted.TierTest, ...]
    randomized: tuple[RandomizedUnits, ...]
    of_auxiliary: tuple[RandomizedUnits, ...] = ()


def before(config: AuditConfig, case: AuditCase, tuned: RunFolder | None) -> SyntheticFile:
    """Read the synthetic texts, and refuse them where they are the private data."""
    return read_synthetic(config.synthetic, case.records, case.membership)


def collect(audit: Collection) -> SyntheticEvidence:
    """Score records, units and planted secrets by the text; no model is asked."""
    return collecting.collect(audit.case, audit.before[NAME])


def prepare(evidence: SyntheticEvidence, judgement: Judgement) -> Prepared:
    """Name all that will be tested: levels, what is told, tiers of planted secrets."""
    case, config = judgement.case, judgement.config
    levels = tuple(text_levels(evidence, case.membership))
    tests = {level.name: significance(level, named=GAIN, seed=config.seed) for level in levels if level.judged}
    told = told_tests(evidence.units, evidence.told)
    tiers = planted.tier_tests(case.canaries, -evidence.secrets)
    tested = TestedText(
        evidence=evidence,
        levels=levels,
        tests=tests,
        told=told,
        tiers=tiers,
        randomized=_randomized(evidence, levels, judgement),
        of_auxiliary=_of_auxiliary(evidence, judgement),
    )
    return Prepared(evidence=tested, claims=tuple(_claims(tested, case.membership.unit)))


def _claims(tested: TestedText, unit: str) -> list[Claim]:
    claims = [
        Claim(name=_claim(name), weight=OWN if unit in (name, "given") else OTHER, groups=tests.groups)
        for name, tests in tested.tests.items()
    ]
    if tested.told:
        group = HypothesisGroup(1.0, holm([test.p for test in tested.told]))
        claims.append(Claim(name=TOLD_CLAIM, weight=TOLD, groups=(group,)))
    if tested.tiers:
        group = HypothesisGroup(1.0, holm([test.p for test in tested.tiers]))
        claims.append(Claim(name=TIER_CLAIM, weight=TIERS, groups=(group,)))
    if tested.randomized or tested.of_auxiliary:
        claims.append(Claim(name=EPSILON_CLAIM, weight=EPSILON))
    return claims


def _claim(level: str) -> str:
    return f"synthetic {level}"


def _randomized(
    evidence: SyntheticEvidence, levels: tuple[Level, ...], judgement: Judgement
) -> tuple[RandomizedUnits, ...]:
    case, confounded = judgement.case, judgement.confound.no_claim
    groups = [
        *(level_units(level, case.membership, confounded=confounded) for level in levels),
        secret_units(case.canaries, evidence.secrets, unit=_secret_unit(evidence, judgement)),
    ]
    return tuple(group for group in groups if group is not None)


def _secret_unit(evidence: SyntheticEvidence, judgement: Judgement) -> str:
    """Whose coin a secret's is: with users, each secret is a made-up user of its own."""
    promise = evidence.file.promise
    by_user = promise is not None and promise.unit == "user" and judgement.case.membership.has_users
    return "user" if by_user else "record"


def _of_auxiliary(evidence: SyntheticEvidence, judgement: Judgement) -> tuple[RandomizedUnits, ...]:
    """Units with fair coins of their own, by the model that was tuned on the text: all that it knows of the records has
    passed through the text, so the text's promise holds for it."""
    guarantee, secrets = judgement.prepared.get("guarantee"), judgement.prepared.get("canaries")
    if not judgement.config.auxiliary or guarantee is None:
        return ()
    groups = randomized_units(
        guarantee.evidence.levels,
        judgement.case.membership,
        judgement.case.canaries,
        None if secrets is None else secrets.evidence.evidence,
        secret_unit=_secret_unit(evidence, judgement),
        confounded=judgement.confound.no_claim,
        named=judgement.config.primary,
    )
    return tuple(replace(group, units=f"{group.units}, by the auxiliary model") for group in groups)


def evaluate(tested: TestedText, judgement: Judgement, allowance: Allowance) -> FamilySection:
    """Findings of membership, of what is told beyond coincidence, of planted secrets, and bounds on ε."""
    config, evidence, confounded = judgement.config, tested.evidence, judgement.confound.no_claim
    outcomes = [_level_result(level, tested, judgement, allowance) for level in tested.levels]
    (told_p,) = allowance.p.get(TOLD_CLAIM, (np.zeros(0),))
    told, refused = told_findings(
        tested.told, told_p, evidence.units, confidence=allowance.confidence(TOLD_CLAIM), error=allowance.error,
        confounded=confounded,
    )  # fmt: skip
    promise = evidence.file.promise
    delta = config.delta if promise is None else promise.delta
    bounds, unbounded = text_bounds(
        (*tested.randomized, *tested.of_auxiliary),
        delta=delta,
        confidence=allowance.confidence(EPSILON_CLAIM),
        joint=config.confidence,
    )
    of_text = [bound for bound in bounds if any(bound.randomized is group for group in tested.randomized)]
    section = told_section(
        evidence, tested.told, told_p, confidence=allowance.confidence(TOLD_CLAIM), notes=_notes(config, refused)
    )
    tables = (*section.tables, *((bound_table(bounds, promise, delta=delta),) if bounds else ()))
    return FamilySection(
        findings=(
            *chain.from_iterable(outcome.findings for outcome in outcomes),
            *told,
            *_tier_findings(tested, judgement, allowance),
            *bound_findings(of_text),  # those of the auxiliary model are its own
        ),
        urgent=broken(bounds, promise),
        power=tuple(chain.from_iterable(outcome.power for outcome in outcomes)),
        not_tested=(*chain.from_iterable(outcome.refused for outcome in outcomes), *refused, *unbounded),
        counts={"synthetic_texts": len(evidence.file.texts)},
        sections=(replace(section, tables=tables),),
        fields=_fields(tested, outcomes, judgement, allowance),
    )


def _notes(config: AuditConfig, refused: tuple[str, ...]) -> tuple[str, ...]:
    if config.auxiliary:
        return (ONE_CHANNEL.format(base=Path(config.auxiliary).name), *refused)
    return ("No model was tuned on the text and asked (--auxiliary MODEL does); that may find more.", *refused)


def _level_result(level: Level, tested: TestedText, judgement: Judgement, allowance: Allowance) -> LevelResult:
    tests, claim = tested.tests.get(level.name), _claim(level.name)
    return judging.evaluate(
        level,
        tests,
        LevelJudging(
            p_values={} if tests is None else by_statistic(level.name, tests, allowance.p[claim]),
            error=allowance.error,
            miss=allowance.parts.get(claim, allowance.error),
            confounded=judgement.confound.no_claim,
            seed=judgement.config.seed,
        ),
    )


def _tier_findings(tested: TestedText, judgement: Judgement, allowance: Allowance) -> tuple[Finding, ...]:
    if not tested.tiers:
        return ()
    tiers = planted.exposures(
        judgement.case.canaries, -tested.evidence.secrets, confidence=allowance.confidence(TIER_CLAIM)
    )
    (p_values,) = allowance.p[TIER_CLAIM]
    findings = planted.findings(tiers, [float(p) for p in p_values], allowance.error)
    return tuple(
        replace(
            finding, attack=SECRETS, threat=threat(SECRETS), statement=f"By the synthetic text: {finding.statement}"
        )
        for finding in findings
    )


def _fields(
    tested: TestedText, outcomes: list[LevelResult], judgement: Judgement, allowance: Allowance
) -> dict[str, object]:
    """Attacks, curves, distributions and tests, behind those that a family before this one gave."""
    earlier: dict[str, tuple[object, ...]] = {}
    for section in judgement.sections.values():
        earlier |= {name: tuple(value) for name, value in section.fields.items() if isinstance(value, tuple)}
    attacks = tuple(
        AttackRun(
            name=scored.name, level=level.name, access=scored.threat.access, paper=scored.paper, summary=scored.summary,
            ran=True,
        )
        for level in tested.levels
        for scored in level.attacks
    )  # fmt: skip
    ours: dict[str, tuple[object, ...]] = {
        "attacks": attacks,
        "curves": tuple(chain.from_iterable(outcome.curves for outcome in outcomes)),
        "distributions": tuple(chain.from_iterable(outcome.distributions for outcome in outcomes)),
        "tests": tuple(
            described(
                level, tested.tests[level.name], allowance.p[_claim(level.name)], allowance.parts[_claim(level.name)]
            )
            for level in tested.levels
            if level.name in tested.tests
        ),
    }
    return {name: (*earlier.get(name, ()), *value) for name, value in ours.items()}


def _was_read(results: Results) -> bool:
    return any(section.name == "synthetic-text" for section in results.sections)


SYNTHETIC = family(
    name=NAME,
    order=70,
    collect=collect,
    prepare=prepare,
    evaluate=evaluate,
    before=before,
    switch=NAME,
    needs_model=False,
    levels=(LeakLevel(name=LEVEL, words="people who show in the text beyond coincidence", place=0),),
    kinds=(
        AttackKind(
            name="Synthetic text",
            asks="what synthetic text that was made from the records gives away without any model",
            try_it="give the text (--synthetic FILE)",
            tried=_was_read,
            switch=NAME,
        ),
    ),
)
