# SPDX-License-Identifier: Apache-2.0
"""ScanResults: everything that one scan of a model, adapter or data set gave, as plain data.

A scanner gives *evidence*, never a verdict: scores, higher is worse. The meaning of a score comes from its null: an
exact test that the scanner makes itself, clean models that it is compared with, or, for files, a rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from reticent.core.field_types import Count, FreeForm, InRange, OneOf
from reticent.core.finding import Probability
from reticent.core.scan_words import KINDS, NULLS, WORDS
from reticent.core.section import Section

Word = Annotated[str, OneOf(*WORDS)]
Kind = Annotated[str, OneOf(*KINDS)]
Null = Annotated[str, OneOf(*NULLS)]
PValue = Annotated[float, InRange(above=0, most=1)]


@dataclass(frozen=True, kw_only=True)
class ScanEvidence:
    """One place that a scanner looked at and what it gave.

    Args:
        score: of the place; higher is worse. In the unit of the scanner.
        where: file with line or member, module of the model, or id of a text; never text itself.
        note: what was seen, in words for a person. It holds no private text.
        certain: shown by itself and no tail of a null: a file that runs code, a trigger that was verified on fresh
            prompts.
        p: exact p-value, where the scanner makes its own null; None where clean models or a rule decide.
        remedy: what to do about it; empty where there is nothing to do.
    """

    score: float
    where: str
    note: str
    certain: bool = False
    p: PValue | None = None
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class ScanOutcome:
    """The outcome of one scanner.

    Args:
        name: in the registry of scanners.
        title: for people.
        kind: of what it looks at.
        null: what its scores are compared with.
        word: ``"found"``, ``"suspicious"``, ``"nothing found"`` or ``"could not look"``.
        sentence: what it gave, for the verdict.
        why_not: why it could not look; else empty.
        failed: whether it had all it needs and could not look all the same: it crashed, or could not read a file.
        blind_to: what it cannot see, whatever it says.
        score: the largest of its evidence; None where it could not look.
        p: of the scanner as a whole, before the correction for the number of scanners; None for rules.
        p_adjusted: after it (Holm); None for rules.
        clean_scores: of the clean models that it was compared with, for the strip plot.
        smallest_p: that it could have given with what it was compared with; None for rules.
        evidence: places, the worst first.
        section: its tables.
        seconds: that it took.
    """

    name: str
    title: str
    kind: Kind
    null: Null
    word: Word
    sentence: str
    why_not: str = ""
    failed: bool = False
    blind_to: str
    score: float | None = None
    p: PValue | None = None
    p_adjusted: PValue | None = None
    clean_scores: tuple[float, ...] = ()
    smallest_p: PValue | None = None
    evidence: tuple[ScanEvidence, ...] = ()
    section: Section | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if (self.word == "could not look") != bool(self.why_not):
            raise ValueError(f"scanner {self.name!r} either looked or says why it could not")


@dataclass(frozen=True, kw_only=True)
class ScannedFile:
    """One line of the bill of materials.

    Args:
        path: inside the folder, with ``/``.
        bytes: its size.
        sha256: hex; empty where it was not asked for.
        content: its format by content, not by name: ``"safetensors"``, ``"pickle in zip"``, ``"GGUF"``, ``"JSON"``, …
    """

    path: str
    bytes: Count
    sha256: str
    content: str


@dataclass(frozen=True, kw_only=True)
class ScanVerdict:
    """The answer over all scanners. It never says safe.

    Args:
        word: the worst of the scanners that looked; ``"could not look"`` where none could, and where nothing was found
            but one had all it needs and failed: without it, that is no answer.
        headline: one sentence.
        sentences: what it rests on, one fact each, and what was not looked at.
    """

    word: Word
    headline: str
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScanResults:
    """The whole outcome.

    Args:
        title: of the page.
        created: ISO 8601, UTC.
        verdict: the answer.
        level: of false alarms over all scanners that compare with a null.
        outcomes: of the scanners, in their order.
        files: bill of materials.
        clean: clean models that were compared with.
        provenance: what the model claims to be made from, fingerprints, licence, versions, hardware.
    """

    title: str
    created: str
    verdict: ScanVerdict
    level: Probability
    outcomes: tuple[ScanOutcome, ...]
    files: tuple[ScannedFile, ...] = ()
    clean: Count = 0
    provenance: FreeForm = field(default_factory=dict)

    def outcome(self, name: str) -> ScanOutcome | None:
        """The outcome of the scanner of that name; None where it is not among these results."""
        return next((outcome for outcome in self.outcomes if outcome.name == name), None)
