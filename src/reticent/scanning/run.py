# SPDX-License-Identifier: Apache-2.0
"""Run all scanners that can look at a suspect. One that crashes could not look; the others go on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reticent.core.errors import BadInput, ReticentError
from reticent.core.printable import printable
from reticent.core.scan_words import BY_RULE, CLEAN, FILES, KINDS
from reticent.scanning.calibrate import (
    calibrated,
    clean_models_needed,
    conformal_p,
    in_turn,
    refuse_level,
    smallest_p,
)
from reticent.scanning.scanner import Scanner, scanners
from reticent.scanning.suspect import Suspect
from reticent.scanning.verdict import ScannerLook


@dataclass(frozen=True, kw_only=True)
class ScanPlan:
    """Scanners that are asked for, and what keeps some from looking.

    Args:
        scanners: by rising order.
        missing: by name, what a scanner lacks.
        tests: number of p-values that will be corrected for each other.
        clean: clean models that were given.
        level: of false alarms over all tests.
    """

    scanners: tuple[Scanner, ...]
    missing: dict[str, str]
    tests: int
    clean: int
    level: float

    @property
    def announcement(self) -> str:
        """A sentence on the most that tests beside clean models can say, to be told before they run; empty without."""
        compared = [entry for entry in self.scanners if entry.null == CLEAN and entry.name not in self.missing]
        if not compared:
            return ""
        return (
            f"{self.clean} clean models: the smallest p that they can give is {smallest_p(self.clean):.3g}, and "
            f"{self.tests} {'test shares' if self.tests == 1 else 'tests share'} the level of {self.level:g}."
        )


def chosen_scanners(only: Sequence[str] = ()) -> tuple[Scanner, ...]:
    """Scanners of the kinds, or of the names, in ``only``; all where it is empty.

    Raises:
        BadInput: a word is neither.
    """
    every = scanners()
    names = {entry.name for entry in every}
    for word in only:
        if word not in KINDS and word not in names:
            known = f"Kinds: {', '.join(KINDS)}. Scanners: {', '.join(sorted(names))}."
            raise BadInput(f"--only {word!r}", "is neither a kind of scanner nor one", known)
    return tuple(entry for entry in every if not only or entry.kind in only or entry.name in only)


def plan_scan(suspect: Suspect, chosen: Sequence[Scanner], *, clean: int, level: float) -> ScanPlan:
    """See who can look, and whether the level can be supported.

    Raises:
        Underpowered: fewer clean models were given than the level needs.
    """
    missing = {entry.name: why for entry in chosen if (why := suspect.missing(entry.needs))}
    able = [entry for entry in chosen if entry.name not in missing]
    compared = [entry for entry in able if entry.null == CLEAN]
    if compared and not clean:
        own = [entry for entry in able if entry.null not in (BY_RULE, CLEAN)]
        needed = clean_models_needed(level, tests=len(compared) + len(own))
        why = f"no clean models were given (--clean; {needed} make a level of {level:g} possible, fewer with --only)"
        missing |= {entry.name: why for entry in compared}
        able = [entry for entry in able if entry.null != CLEAN]
    tests = sum(entry.null != BY_RULE for entry in able)
    if clean and compared:
        refuse_level(level, clean, tests=tests)
    return ScanPlan(scanners=tuple(chosen), missing=missing, tests=tests, clean=clean, level=level)


def run_scanners(suspect: Suspect, plan: ScanPlan, clean: Sequence[Suspect] = ()) -> list[ScannerLook]:
    """Let each scanner look, one after the other. Clean models are asked about the same texts as the suspect, with the
    same sibling and seed: else they would differ from it in more than their weights."""
    alike = [suspect.alike(model.folder) for model in clean]
    return [_look(entry, suspect, plan, alike) for entry in plan.scanners]


def _look(entry: Scanner, suspect: Suspect, plan: ScanPlan, clean: Sequence[Suspect]) -> ScannerLook:
    if entry.name in plan.missing:
        return ScannerLook(scanner=entry, why_not=plan.missing[entry.name])
    begun = time.perf_counter()
    try:
        if entry.null == CLEAN:
            looked = _compared(entry, suspect, clean)
        else:
            looked = _alone(entry, suspect)
            if entry.clean_limits and clean and _alarms(looked, plan.level):
                looked = _limited(looked, clean)
    except ReticentError as error:
        # A refusal says that data or model are none that it is for; of a file it says that content was not read.
        why, unread = printable(str(error)).removesuffix("."), entry.kind == FILES
        return ScannerLook(scanner=entry, why_not=why, failed=unread, seconds=_since(begun))
    except Exception as error:  # noqa: BLE001 - a scanner that crashes could not look, which is no "nothing found"
        why = f"it failed ({type(error).__name__})"
        return ScannerLook(scanner=entry, why_not=why, failed=True, seconds=_since(begun))
    return replace(looked, seconds=_since(begun))


def _compared(entry: Scanner, suspect: Suspect, clean: Sequence[Suspect]) -> ScannerLook:
    calibration = calibrated(entry, suspect, clean)
    return ScannerLook(
        scanner=entry,
        evidence=tuple(calibration.evidence),
        score=calibration.score,
        p=calibration.p,
        smallest_p=calibration.smallest_p,
        clean_scores=tuple(calibration.clean_scores),
    )


def _alone(entry: Scanner, suspect: Suspect) -> ScannerLook:
    evidence = tuple(entry.look(suspect))
    score = max((row.score for row in evidence), default=0.0)
    if entry.null == BY_RULE:
        return ScannerLook(scanner=entry, evidence=evidence, score=score)
    exact = [row.p for row in evidence if row.p is not None]
    p = min(1.0, len(exact) * min(exact)) if exact else 1.0
    return ScannerLook(scanner=entry, evidence=evidence, score=score, p=p)


def _alarms(looked: ScannerLook, level: float) -> bool:
    return any(row.certain for row in looked.evidence) or (looked.p is not None and looked.p <= level)


def _limited(looked: ScannerLook, clean: Sequence[Suspect]) -> ScannerLook:
    """The alarm held against what the same scanner says of clean models; one that it cannot look at is left out.

    A suspect without an alarm is not held against them: clean models could only take one away.
    """
    scores = [score for model in clean if (score := _score_of(looked.scanner, model)) is not None]
    if not scores or looked.score is None or looked.p is None:
        return looked
    return replace(
        looked,
        evidence=tuple(replace(row, certain=row.certain and row.score > max(scores)) for row in looked.evidence),
        p=max(looked.p, conformal_p(looked.score, scores)),
        smallest_p=smallest_p(len(scores)),
        clean_scores=tuple(scores),
    )


def _score_of(entry: Scanner, model: Suspect) -> float | None:
    """The largest score on a clean model; None where it cannot be looked at."""
    try:
        return max((row.score for row in in_turn(entry.look, model)), default=0.0)
    except ReticentError:
        return None


def _since(begun: float) -> float:
    return round(time.perf_counter() - begun, 3)
