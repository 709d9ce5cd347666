# SPDX-License-Identifier: Apache-2.0
"""Personal data as an audit family: the model is asked for it, ranks it among others, and writes freely."""

from __future__ import annotations

from dataclasses import replace

from reticent.auditing.attack_kind import AttackKind, with_rows
from reticent.auditing.error_budget import Allowance, Claim
from reticent.auditing.extraction.evaluate import extraction_findings
from reticent.auditing.family import Collection, FamilySection, Judgement, Prepared, family
from reticent.auditing.pii import collect as collecting
from reticent.auditing.pii import evaluate as evaluating
from reticent.auditing.pii.evidence import PiiEvidence
from reticent.core.results import Extraction

NAME = "pii"
FAMILY = "personal data"
"""Of the rows in the results."""
WEIGHT = 1.0


def collect(audit: Collection) -> PiiEvidence:
    """Ask both models for the secrets that extraction chose, and for personal data of the records."""
    chosen = audit.evidence["extraction"].secrets
    return collecting.collect(audit.case, audit.models, chosen, seed=audit.config.seed, cache=audit.cache)


def prepare(evidence: PiiEvidence, judgement: Judgement) -> Prepared:
    """Claim a part of the error for the intervals of shares that are given away."""
    return Prepared(evidence=evidence, claims=(Claim(name=NAME, weight=WEIGHT),))


def evaluate(evidence: PiiEvidence, judgement: Judgement, allowance: Allowance) -> FamilySection:
    """Rows of personal data beside those of extraction."""
    rows, notes = evaluating.evaluate(
        evidence,
        confidence=allowance.confidence(NAME),
        joint=judgement.config.confidence,
        attacks=judgement.config.selection.of_family(NAME),
    )
    earlier: Extraction = judgement.sections["extraction"].fields["extraction"]
    extraction = replace(earlier, rows=(*earlier.rows, *rows), notes=(*earlier.notes, *notes))
    return FamilySection(
        findings=tuple(extraction_findings(extraction, FAMILY, confounded=judgement.confound.no_claim)),
        not_tested=notes,
        fields={"extraction": extraction},
    )


PII = family(
    name=NAME,
    order=31,
    collect=collect,
    prepare=prepare,
    evaluate=evaluate,
    switch="extraction",
    kinds=(
        AttackKind(
            name="Personal data",
            asks="whether the model gives away addresses, numbers and names to somebody who asks",
            try_it="add --extraction, on records that hold some (`reticent prepare` marks them)",
            tried=with_rows(FAMILY),
            switch="extraction",
        ),
    ),
)
