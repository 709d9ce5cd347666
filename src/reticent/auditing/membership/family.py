# SPDX-License-Identifier: Apache-2.0
"""Membership as an audit family: can records and users that were trained on be told from others?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from reticent.auditing.attack_kind import AttackKind, at_level, with_access
from reticent.auditing.case import AuditCase
from reticent.auditing.config import AuditConfig
from reticent.auditing.error_budget import Allowance, Claim
from reticent.auditing.family import FamilySection, Judgement, Prepared, family
from reticent.auditing.leak_level import LeakLevel
from reticent.auditing.membership import evaluate as evaluating
from reticent.auditing.membership.choose_attacks import listed
from reticent.auditing.membership.collect import MembershipEvidence, collect
from reticent.auditing.membership.evaluate import LevelJudging, LevelResult
from reticent.auditing.membership.make_levels import LevelUnits, canary_users, record_level, user_level
from reticent.auditing.membership.most_exposed import exposed
from reticent.auditing.membership.primary import refuse_unknown
from reticent.auditing.membership.shadow_scores import Shadows
from reticent.auditing.membership.shadow_training import refuse_shadows, shadow_models
from reticent.auditing.membership.significance import LevelTests, by_statistic, described, significance
from reticent.auditing.membership.users import user_evidence
from reticent.core.errors import BadInput
from reticent.core.results import ExposedUnit, Results
from reticent.core.run_folder import RunFolder
from reticent.models.emulation import is_emulation

NAME = "membership"
OWN, LEVEL = 4.0, 1.0
"""Weights: of the level that coins were thrown for (of all levels where membership was given), of any other level."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TestedLevels:
    """All levels, and the test of each that has units enough.

    Args:
        evidence: scores.
        levels: of records, users and canary users, as far as there are any.
        tests: by level.
    """

    evidence: MembershipEvidence
    levels: tuple[LevelUnits, ...]
    tests: Mapping[str, LevelTests]


def refuse(config: AuditConfig, case: AuditCase, tuned: RunFolder | None) -> None:
    """Refuse a primary attack that there is not, shadow models that cannot be made, and a look inside an ensemble."""
    refuse_unknown(config.primary)
    refuse_shadows(config, case, tuned)
    if config.whitebox and is_emulation(case.target_name):
        raise BadInput(
            "--whitebox",
            f"{case.target_name} is an emulated fine-tune of three models, which has no hidden states and gradients of "
            "its own",
            "Leave it out, or audit the small tuned model so, the only one that saw the private text.",
        )


def before(config: AuditConfig, case: AuditCase, tuned: RunFolder | None) -> Shadows | None:
    """Train the shadow models while no other model is in memory."""
    if not config.shadow or tuned is None:
        return None
    return shadow_models(tuned, case, config, dtype=config.scoring_dtype)


def prepare(evidence: MembershipEvidence, judgement: Judgement) -> Prepared:
    """Make the levels, and test every attack of each against re-thrown coins."""
    config = judgement.config
    levels = tuple(_levels(evidence, config.seed))
    tests = {
        units.level.name: significance(units.level, named=config.primary, seed=config.seed)
        for units in levels
        if units.level.judged
    }
    thrown_for = judgement.case.membership.unit
    claims = (
        Claim(name=name, weight=OWN if thrown_for in (name, "given") else LEVEL, groups=level_tests.groups)
        for name, level_tests in tests.items()
    )
    return Prepared(evidence=TestedLevels(evidence=evidence, levels=levels, tests=tests), claims=tuple(claims))


def _levels(evidence: MembershipEvidence, seed: int) -> Iterator[LevelUnits]:
    yield record_level(evidence, seed=seed)
    users = user_evidence(evidence.membership)
    if users is not None:
        yield user_level(evidence, users)
    planted_users = canary_users(evidence)
    if planted_users is not None:
        yield planted_users


def evaluate(tested: TestedLevels, judgement: Judgement, allowance: Allowance) -> FamilySection:
    """Findings of every attack on every level, curves, the most exposed units, and the power of the tests."""
    evidence = tested.evidence
    outcomes = [_level_result(units, tested, judgement, allowance) for units in tested.levels]
    curves = chain.from_iterable(outcome.curves for outcome in outcomes)
    distributions = chain.from_iterable(outcome.distributions for outcome in outcomes)
    attacks = [scored for units in tested.levels for scored in units.level.attacks]
    return FamilySection(
        findings=tuple(chain.from_iterable(outcome.findings for outcome in outcomes)),
        power=tuple(chain.from_iterable(outcome.power for outcome in outcomes)),
        not_tested=(
            *chain.from_iterable(units.refused for units in tested.levels),
            *chain.from_iterable(outcome.refused for outcome in outcomes),
            *(f"{name}: {reason}" for name, reason in sorted(evidence.choice.off.items())),
        ),
        counts={"dropped_without_tokens": evidence.dropped},
        fields={
            "attacks": listed(evidence.choice, evidence.notes, attacks),
            "curves": tuple(curve for curve in curves if curve.level != "canary"),
            "distributions": tuple(distribution for distribution in distributions if distribution.level != "canary"),
            "exposed": tuple(_exposed(tested, outcomes, judgement)),
            "tests": tuple(
                described(units.level, tested.tests[name], allowance.p[name], allowance.parts[name])
                for units in tested.levels
                if (name := units.level.name) in tested.tests
            ),
        },
    )


def _level_result(units: LevelUnits, tested: TestedLevels, judgement: Judgement, allowance: Allowance) -> LevelResult:
    name = units.level.name
    tests = tested.tests.get(name)
    judging = LevelJudging(
        p_values={} if tests is None else by_statistic(name, tests, allowance.p[name]),
        error=allowance.error,
        miss=allowance.parts.get(name, allowance.error),
        confounded=judgement.confound.no_claim,
        seed=judgement.config.seed,
    )
    return evaluating.evaluate(units.level, tests, judging)


def _exposed(tested: TestedLevels, outcomes: list[LevelResult], judgement: Judgement) -> Iterator[ExposedUnit]:
    case, config = judgement.case, judgement.config
    texts = {record.id: record.plain for record in case.records} if config.show_text else {}
    for units, outcome in zip(tested.levels, outcomes, strict=True):
        if outcome.best is not None and units.level.name != "canary":
            yield from exposed(units.level, outcome.best, units.ids, judgement.key, texts)


def _reads_only_text(results: Results) -> bool:
    return any(run.ran and run.access == "text" and run.level in ("record", "user") for run in results.attacks)


KINDS = (
    AttackKind(
        name="Membership, per record",
        asks="whether a record can be told to have been trained on",
        try_it="give at least 10 records on each side (--members, --held_out)",
        tried=at_level("record", "auc", "tpr", "advantage"),
    ),
    AttackKind(
        name="Membership, per user",
        asks="whether a person can be told to have been trained on",
        try_it="it needs 10 users who were in and 10 who were not: tune with --user_field and --split_unit user",
        tried=at_level("user", "auc", "tpr"),
    ),
    AttackKind(
        name="Planted users",
        asks="whether people with a phrase of their own are told",
        try_it="`reticent tune --canary_users 40` plants some",
        tried=at_level("canary", "auc", "tpr"),
    ),
    AttackKind(
        name="The inside of the model (white box)",
        asks="what hidden states and gradients give away to somebody who has the weights",
        try_it="add --whitebox",
        tried=with_access("hidden", "grad", "weights"),
        switch="whitebox",
    ),
    AttackKind(
        name="Attackers who only read what the model writes",
        asks="whether membership shows in its answers alone",
        try_it="add --attacks all",
        tried=_reads_only_text,
    ),
)

MEMBERSHIP = family(
    name=NAME,
    order=10,
    collect=collect,
    prepare=prepare,
    evaluate=evaluate,
    refuse=refuse,
    before=before,
    levels=(
        LeakLevel(name="record", words="records", place=2),
        LeakLevel(name="user", words="users", place=3),
    ),
    kinds=KINDS,
)
