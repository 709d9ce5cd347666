# SPDX-License-Identifier: Apache-2.0
"""From what scanners gave to words: of each scanner, and of the scan. None of them is "safe"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reticent.core.printable import printable
from reticent.core.scan_results import ScanEvidence, ScanOutcome, ScanVerdict
from reticent.core.scan_words import BY_RULE, FOUND, NOT_LOOKED, NOTHING, SUSPICIOUS, WORDS
from reticent.scanning.scanner import Scanner
from reticent.stats.hypothesis import holm

LEAST = 1.0
"""Score of evidence by rule from which on it counts."""
MOST_SHOWN = 200
"""Evidence of a scanner that results keep, the worst first."""
NEVER_SAFE = "A scan never says safe: it says what these scanners saw, and each has things that it cannot see."


@dataclass(frozen=True, kw_only=True)
class ScannerLook:
    """The outcome of one scanner, before p-values are corrected for each other.

    Args:
        scanner: which.
        evidence: in any order.
        score: the largest; None where it could not look.
        p, smallest_p, clean_scores: see `ScanOutcome`.
        why_not: why it could not look; else empty.
        failed: whether it had all it needs, and could not look all the same.
        seconds: that it took.
    """

    scanner: Scanner
    evidence: tuple[ScanEvidence, ...] = ()
    score: float | None = None
    p: float | None = None
    smallest_p: float | None = None
    clean_scores: tuple[float, ...] = ()
    why_not: str = ""
    failed: bool = False
    seconds: float = 0.0


def outcomes_of(looks: Sequence[ScannerLook], level: float) -> tuple[ScanOutcome, ...]:
    """The outcome of each scanner; p-values are corrected for each other by Holm."""
    tested = {look.scanner.name: look.p for look in looks if look.p is not None}
    adjusted = holm(list(tested.values())).tolist() if tested else []
    by_name = dict(zip(tested, adjusted, strict=True))
    return tuple(_outcome(look, by_name.get(look.scanner.name), level) for look in looks)


def _outcome(look: ScannerLook, adjusted: float | None, level: float) -> ScanOutcome:
    evidence = [
        replace(row, where=printable(row.where), note=printable(row.note))
        for row in sorted(look.evidence, key=lambda row: (not row.certain, -row.score, row.where))
    ]
    word = NOT_LOOKED if look.why_not else _word(look, evidence, adjusted, level)
    return ScanOutcome(
        name=look.scanner.name,
        title=look.scanner.title,
        kind=look.scanner.kind,
        null=look.scanner.null,
        word=word,
        sentence=_sentence(look, evidence, word, adjusted, level),
        why_not=look.why_not,
        failed=look.failed,
        blind_to=look.scanner.blind_to,
        score=look.score,
        p=look.p,
        p_adjusted=adjusted,
        clean_scores=look.clean_scores,
        smallest_p=look.smallest_p,
        evidence=tuple(evidence[:MOST_SHOWN]),
        seconds=look.seconds,
    )


def _word(look: ScannerLook, evidence: Sequence[ScanEvidence], adjusted: float | None, level: float) -> str:
    if look.scanner.null == BY_RULE:
        counted = [row for row in evidence if row.score >= LEAST]
        return FOUND if any(row.certain for row in counted) else SUSPICIOUS if counted else NOTHING
    if any(row.certain for row in evidence):
        return FOUND
    return SUSPICIOUS if adjusted is not None and adjusted <= level else NOTHING


def _sentence(
    look: ScannerLook, evidence: Sequence[ScanEvidence], word: str, adjusted: float | None, level: float
) -> str:
    title = look.scanner.title
    if word == NOT_LOOKED:
        return f"{title}: could not look, since {look.why_not}."
    tested = ""
    if adjusted is not None and look.p is not None:
        side = "at most" if adjusted <= level else "above"
        among = f" among {len(look.clean_scores)} clean models" if look.clean_scores else ""
        tested = f"p = {look.p:.3g}{among}, {adjusted:.3g} over all tests, {side} the level of {level:g}"
    if word == NOTHING:
        notes = len(evidence)
        more = tested or (f"{notes} {'note' if notes == 1 else 'notes'}, none that counts" if notes else "no trace")
        return f"{title}: nothing found ({more})."
    counted = [row for row in evidence if row.certain or row.score >= LEAST] or list(evidence)
    worst = f"{counted[0].where}: {counted[0].note}" if counted else ""
    more = f"; {len(counted) - 1} more" if len(counted) > 1 else ""
    return f"{title}: {'; '.join(part for part in (worst, tested) if part)}{more}."


def verdict_of(outcomes: Sequence[ScanOutcome]) -> ScanVerdict:
    """The answer over all scanners that were asked for."""
    words = {outcome.word for outcome in outcomes}
    worst = next((word for word in WORDS[:2] if word in words), None)
    if worst is None:
        worst = NOT_LOOKED if any(row.failed for row in outcomes) or NOTHING not in words else NOTHING
    order = {word: place for place, word in enumerate(WORDS)}
    raised = sorted((row for row in outcomes if row.word in WORDS[:2]), key=lambda row: order[row.word])
    calm = [row.title for row in outcomes if row.word == NOTHING]
    sentences = [row.sentence for row in raised]
    sentences += [row.sentence for row in outcomes if row.failed]
    sentences += [f"Nothing found by: {', '.join(calm)}."] if calm else []
    absent = [row for row in outcomes if row.word == NOT_LOOKED and not row.failed]
    sentences += [f"Not looked at: {'; '.join(f'{row.title} ({row.why_not})' for row in absent)}."] if absent else []
    return ScanVerdict(word=worst, headline=_headline(worst, raised), sentences=(*sentences, NEVER_SAFE))


def _headline(word: str, raised: Sequence[ScanOutcome]) -> str:
    if word == NOTHING:
        return "Nothing found by these scanners"
    if word == NOT_LOOKED:
        return "Could not look"
    titles = [row.title[0].lower() + row.title[1:] for row in raised if row.word == word]
    return f"{word.capitalize()}: {', '.join(titles)}"
