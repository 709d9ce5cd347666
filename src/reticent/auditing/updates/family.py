# SPDX-License-Identifier: Apache-2.0
"""Single updates as an audit family: the server as attacker, source inference and inversion, round by round."""

from __future__ import annotations

from reticent.auditing.attack_kind import AttackKind, at_level
from reticent.auditing.error_budget import Allowance, Claim
from reticent.auditing.family import FamilySection, Judgement, Prepared, family
from reticent.auditing.leak_level import LeakLevel
from reticent.auditing.updates import evaluate as evaluating
from reticent.auditing.updates.collect import UpdateEvidence, collect
from reticent.auditing.updates.evaluate import CLIENT, SOURCE, TOKENS, UPDATE
from reticent.core.results import Results

NAME = "updates"
WEIGHT = 1.0


def prepare(evidence: UpdateEvidence, judgement: Judgement) -> Prepared:
    """Claim a part of the error for the intervals, where there is anything to measure."""
    claims = (Claim(name=NAME, weight=WEIGHT),) if evidence.rounds else ()
    return Prepared(evidence=evidence, claims=claims)


def evaluate(evidence: UpdateEvidence, judgement: Judgement, allowance: Allowance) -> FamilySection:
    """Findings about whoever sees single updates, by round and over all rounds that were looked at."""
    sections, not_tested = evaluating.evaluate(evidence, confidence=allowance.confidence(NAME))
    return FamilySection(sections=tuple(sections), not_tested=tuple(not_tested))


def _of_federation(results: Results) -> bool:
    training = results.provenance.get("training")
    return isinstance(training, dict) and "federation" in training


UPDATES = family(
    name=NAME,
    order=80,
    collect=collect,
    prepare=prepare,
    evaluate=evaluate,
    levels=(
        LeakLevel(name=TOKENS, words="words of clients' texts, to whoever sees single updates", place=10),
        LeakLevel(name=UPDATE, words="clients' texts, to whoever sees single updates", place=11),
        LeakLevel(name=CLIENT, words="clients, to whoever sees single updates", place=12),
        LeakLevel(name=SOURCE, words="which client holds a text, to whoever sees single updates", place=13),
    ),
    kinds=(
        AttackKind(
            name="Single updates",
            asks="what a server learns that sees each client's update",
            try_it="could not look, since none were recorded: `reticent federate --record_updates true` keeps them",
            tried=at_level(UPDATE),
            applies=_of_federation,
        ),
    ),
)
