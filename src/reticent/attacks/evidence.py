# SPDX-License-Identifier: Apache-2.0
"""Evidence: every name that an attack's parameters may have, what stands behind it, and who makes it.

An attack names the evidence that it reads by the names of its positional parameters. This is the only list of those
names. Renderings of the records (``variants`` of an attack) are named by the attacks themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["record", "user", "secret", "generation"]
Returns = Literal["score", "hit", "share", "rank"]

UNITS: Mapping[str, str] = {
    "record": "a record of the data",
    "user": "a person, through all of the person's records",
    "secret": "a planted secret, or a value such as a telephone number, in its text",
    "generation": "a text that a model writes from next to nothing",
}
"""Units that one number of an attack may be about."""

RETURNS: Mapping[str, str] = {
    "score": "any number, higher = more likely trained on",
    "hit": "1 where it came out, else 0",
    "share": "how much of it came out, from 0 to 1",
    "rank": "place of the true value among candidates, 1 = best, infinite where it is not among them",
}
"""Numbers that an attack may return, and their direction."""


@dataclass(frozen=True, kw_only=True)
class AttackFamily:
    """Attacks that one part of an audit runs together.

    Args:
        title: of its attacks, in lists.
        switch: the field of ``AuditConfig`` that switches it on; empty where every audit has it.
    """

    title: str
    switch: str = ""


ATTACK_FAMILIES: Mapping[str, AttackFamily] = {
    "membership": AttackFamily(title="membership"),
    "scores": AttackFamily(title="all membership scores together"),
    "whitebox": AttackFamily(title="inside of the model", switch="whitebox"),
    "extraction": AttackFamily(title="extraction", switch="extraction"),
    "pii": AttackFamily(title="personal data", switch="extraction"),
    "identifiers": AttackFamily(title="identifiers", switch="identifiers"),
}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One piece of evidence.

    Args:
        source: how it comes about; all evidence of one attack comes from one source.
        unit: what its rows are about.
        about: its type and what it says, in a line.
    """

    source: str
    unit: Unit
    about: str


TABLES, WRITES, SHADOWS, LABELS = "tables", "written", "shadow", "labels"

FAMILY_OF: Mapping[str, str] = {
    TABLES: "membership",
    WRITES: "membership",
    SHADOWS: "membership",
    "scores": "scores",
    "internals": "whitebox",
    "extraction": "extraction",
    "pii": "pii",
    "identifiers": "identifiers",
}
"""Source of the evidence → family that makes it and runs the attacks on it."""


def _declared(source: str, unit: Unit, **names: str) -> dict[str, Evidence]:
    return {name: Evidence(source=source, unit=unit, about=about) for name, about in names.items()}


EVIDENCE: Mapping[str, Evidence] = {
    **_declared(
        TABLES,
        "record",
        table="`TokenTable`: the target (the fine-tuned model) on the plain text of the attacked records",
        ref="`TokenTable`: the reference (by default the base that was tuned) on the same text",
        known="`TokenTable`: the target on texts that the attacker knows to be outside the training data",
        known_ref="`TokenTable`: the reference on those",
    ),
    **_declared(
        WRITES,
        "record",
        written="`Continuations`: what the target writes after the beginning of each attacked record",
        written_ref="`Continuations`: the same from the reference",
    ),
    **_declared(
        SHADOWS,
        "record",
        shadow="`ShadowScores`: what the target and shadow models (`--shadow`) say of each attacked record",
        known_shadow="`ShadowScores`: the same of texts that the attacker knows to be outside",
    ),
    **_declared("scores", "record", scores="`[N, A]`: scores of all record attacks that learn from no label"),
    **_declared(
        "internals", "record", internals="`{name: [N]}`: hidden states, losses and gradients of the target and its base"
    ),
    **_declared(
        LABELS,
        "record",
        member="`[N]` bool: membership of the records; no record is judged by what was learned from its own label",
        user="`[N]` owner of each record, whose records stay together; None where there are no users",
        half="`[N]` bool: the half of the owners that the record is in, scored by what was learned from the other half",
    ),
    **_declared(
        "extraction",
        "secret",
        forced="`TeacherForced`: every secret after its whole prefix",
        short="`{tokens: TeacherForced}`: after the last few tokens of the prefix only",
        prompted="`{prompt: TeacherForced}`: with a text before the prefix",
        greedy="`SecretContinuations`: what greedy decoding writes in place of the secret",
        sampled="`SecretContinuations`: what sampling writes there",
    ),
    **_declared("extraction", "record", whole="`TeacherForced`: whole records"),
    **_declared(
        "extraction", "generation", free_generations="`FreeGenerations`: different texts written from next to nothing"
    ),
    **_declared(
        "pii",
        "secret",
        ranked="`CandidateRanking`: candidates in the place of a value, in its own text",
        ranked_base="`CandidateRanking`: the same from the base",
        associated="`CandidateRanking`: candidates at the end of a sentence that asks for them",
        proposed="`ProposedFills`: what the model proposes for the place, in its own text",
        answered="`Answers`: what it says when it is asked",
        listed="`FreeMentions`: what it writes without being asked",
    ),
    **_declared(
        "identifiers",
        "secret",
        controlled="`CandidateRanking`: an identifier among controls of its form, in its own text",
        controlled_base="`CandidateRanking`: the same from the base; None without one",
    ),
}

POPULATION = ("known", "known_ref", "known_shadow")
"""Evidence about texts that are not attacked themselves."""

WRITTEN = ("written", "written_ref")
"""Evidence for which models write."""

SHADOWED = ("shadow", "known_shadow")
"""Evidence for which models are trained."""

UNSCORED = frozenset(name for name, evidence in EVIDENCE.items() if evidence.source != TABLES) | set(POPULATION)
"""Evidence that is no table of the attacked records."""

OF_BASE = ("ranked_base", "controlled_base")
"""Evidence from the base beside the target's: whoever reads it cannot be run on the base for comparison."""
