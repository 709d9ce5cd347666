# SPDX-License-Identifier: Apache-2.0
"""The registry of scanners: functions of a suspect that return evidence, one a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reticent.core.paper import Paper
from reticent.core.registry import Registry
from reticent.core.scan_results import ScanEvidence
from reticent.core.scan_words import CLEAN, KINDS, MADE, NULLS
from reticent.core.validate import one_of
from reticent.scanning.features import FeatureVector
from reticent.scanning.suspect import NEEDS, Suspect

ScannerFunction = Callable[[Suspect], Sequence[ScanEvidence]]
FeatureFunction = Callable[[Suspect], FeatureVector]


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """One way to look at a suspect.

    Args:
        name: unique in the registry.
        title: for people.
        kind: ``"files"``, ``"weights"``, ``"behaviour"`` or ``"data"``.
        null: its scores are compared with it. ``"rule"``: a score of 1 or more is *found* where the evidence is
            ``certain``, else *suspicious*; below 1 it is a note. ``"made"``: each evidence has an exact p-value; the
            scanner's own p is the smallest, times their number. ``"clean"``: the largest score is compared with those
            of clean models.
        needs: parts of the suspect without which it cannot look: ``"base"``, ``"data"``, ``"adapter"``, …
            (`reticent.scanning.suspect.NEEDS`).
        blind_to: what it cannot see, in one sentence.
        paper: source; None for rules on files.
        look: ``(suspect) -> evidence``. It raises `BadInput` where it cannot look; an empty list says that there is
            nothing.
        features: ``(suspect) -> numbers`` that have a meaning only beside those of clean models, for scanners with the
            null ``"clean"``: the score is then how far they lie from the clean ones (`reticent.scanning.calibrate`),
            and the evidence of ``look`` is for people. None where the scores of ``look`` are compared themselves.
        order: scanners run by rising order, the cheap ones first.
        clean_limits: its own thresholds for *found* were chosen on tiny models. Where clean models are given, and it
            would raise an alarm, it looks at them too: only what scores above all of them is *found*, and its p is
            not below the suspect's rank among them. For scanners with the null ``"made"``.
    """

    name: str
    title: str
    kind: str
    null: str
    needs: tuple[str, ...] = ()
    blind_to: str
    paper: Paper | None = None
    look: ScannerFunction
    features: FeatureFunction | None = None
    order: int
    clean_limits: bool = False

    def __post_init__(self) -> None:
        one_of(KINDS, kind=self.kind)
        one_of(NULLS, null=self.null)
        for need in self.needs:
            one_of(NEEDS, need=need)
        if self.features is not None and self.null != CLEAN:
            raise ValueError(f"scanner {self.name!r} has features, which only clean models give a meaning")
        if self.clean_limits and self.null != MADE:
            raise ValueError(f"scanner {self.name!r} has clean_limits, which are for p-values of its own")


SCANNERS: Registry[Scanner] = Registry("scanner", "reticent.scanning")


def scanner(
    *,
    name: str,
    title: str,
    kind: str,
    null: str,
    blind_to: str,
    order: int,
    needs: tuple[str, ...] = (),
    paper: Paper | None = None,
    features: FeatureFunction | None = None,
    clean_limits: bool = False,
) -> Callable[[ScannerFunction], ScannerFunction]:
    """Register a function of a suspect; arguments as in `Scanner`."""

    def register(look: ScannerFunction) -> ScannerFunction:
        SCANNERS.add(
            name,
            Scanner(
                name=name,
                title=title,
                kind=kind,
                null=null,
                needs=needs,
                blind_to=blind_to,
                paper=paper,
                look=look,
                features=features,
                order=order,
                clean_limits=clean_limits,
            ),
        )
        return look

    return register


def scanners() -> tuple[Scanner, ...]:
    """All scanners by rising order."""
    return tuple(sorted(SCANNERS, key=lambda entry: (entry.order, entry.name)))
