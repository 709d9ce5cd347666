# SPDX-License-Identifier: Apache-2.0
"""Extraction as an audit family: secrets that the model writes word for word, compared with controls."""

from __future__ import annotations

from reticent.attacks.extraction import short_lengths
from reticent.auditing.attack_kind import AttackKind, with_rows
from reticent.auditing.error_budget import Allowance, Claim
from reticent.auditing.extraction import collect as collecting
from reticent.auditing.extraction import evaluate as evaluating
from reticent.auditing.extraction.choose_secrets import secrets_of
from reticent.auditing.extraction.collect import ExtractionEvidence
from reticent.auditing.family import Collection, FamilySection, Judgement, Prepared, family
from reticent.auditing.leak_level import LeakLevel

NAME = "extraction"
WEIGHT = 1.0


def collect(audit: Collection) -> ExtractionEvidence:
    """Choose secrets, and let both models read and write."""
    return collecting.collect(
        audit.case,
        audit.models,
        secrets_of(audit.case),
        samples=audit.config.extraction_samples,
        seed=audit.config.seed,
        cache=audit.cache,
        short=short_lengths(audit.config.selection.of_family(NAME)),
    )


def prepare(evidence: ExtractionEvidence, judgement: Judgement) -> Prepared:
    """Claim a part of the error for the intervals of extracted shares."""
    return Prepared(evidence=evidence, claims=(Claim(name=NAME, weight=WEIGHT),))


def evaluate(evidence: ExtractionEvidence, judgement: Judgement, allowance: Allowance) -> FamilySection:
    """Shares with intervals, and a finding for the row that leaks with the most certainty."""
    extraction = evaluating.evaluate(
        evidence,
        confidence=allowance.confidence(NAME),
        joint=judgement.config.confidence,
        attacks=judgement.config.selection.of_family(NAME),
    )
    return FamilySection(
        findings=tuple(evaluating.extraction_findings(extraction, NAME, confounded=judgement.confound.no_claim)),
        not_tested=extraction.notes,
        fields={"extraction": extraction},
    )


EXTRACTION = family(
    name=NAME,
    order=30,
    collect=collect,
    prepare=prepare,
    evaluate=evaluate,
    switch="extraction",
    levels=(
        LeakLevel(
            name="passage",
            words="text word for word",
            place=0,
            randomized=True,
            headline="Planted secrets come out of this model.",
        ),
    ),
    kinds=(
        AttackKind(
            name="Extraction",
            asks="what the model writes of its training data word for word; it was only scored, not sampled",
            try_it="add --extraction",
            tried=with_rows(NAME),
            switch="extraction",
        ),
    ),
)
