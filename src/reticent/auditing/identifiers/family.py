# SPDX-License-Identifier: Apache-2.0
"""Identifiers as an audit family: numbers, keys and digests of the records, ranked among controls of the same form."""

from __future__ import annotations

from reticent.auditing.attack_kind import AttackKind, at_level
from reticent.auditing.error_budget import Allowance, Claim
from reticent.auditing.family import Collection, FamilySection, Judgement, Prepared, family
from reticent.auditing.identifiers import collect as collecting
from reticent.auditing.identifiers import evaluate as evaluating
from reticent.auditing.identifiers.collect import IdentifierEvidence
from reticent.auditing.leak_level import LeakLevel

NAME = "identifiers"
WEIGHT = 1.0


def collect(audit: Collection) -> IdentifierEvidence:
    """Rank the identifiers of all records."""
    return collecting.collect(audit.case, audit.models, cache=audit.cache)


def prepare(evidence: IdentifierEvidence, judgement: Judgement) -> Prepared:
    """Claim a part of the error for the intervals of shares."""
    return Prepared(evidence=evidence, claims=(Claim(name=NAME, weight=WEIGHT),))


def evaluate(evidence: IdentifierEvidence, judgement: Judgement, allowance: Allowance) -> FamilySection:
    """Findings about identifiers that were trained on."""
    findings, notes = evaluating.evaluate(evidence, confidence=allowance.confidence(NAME))
    return FamilySection(findings=tuple(findings), not_tested=tuple(notes))


IDENTIFIERS = family(
    name=NAME,
    order=40,
    collect=collect,
    prepare=prepare,
    evaluate=evaluate,
    switch="identifiers",
    levels=(
        LeakLevel(
            name="identifier",
            words="identifiers",
            place=1,
            randomized=True,
            headline="This model knows identifiers that it was trained on.",
        ),
    ),
    kinds=(
        AttackKind(
            name="Identifiers",
            asks="whether numbers, keys and digests of the records are known among controls of the same form",
            try_it="add --identifiers",
            tried=at_level("identifier"),
            switch="identifiers",
        ),
    ),
)
