# SPDX-License-Identifier: Apache-2.0
"""What a detector of personal data is: a function from a text to spans, and how good its evidence is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from reticent.core.record import Span
from reticent.core.registry import Registry

Find: TypeAlias = Callable[[str], Iterable[Span]]
"""``find(text)``: spans in characters of ``text``, in any order, overlapping or not."""


class Evidence(IntEnum):
    """What a span rests on. Where spans of two detectors overlap, the better evidence names the characters."""

    MODEL = 0
    """A statistical model took it for one."""
    CONTEXT = 1
    """Words around it say so."""
    FORM = 2
    """It looks like one and like little else."""
    CHECKED = 3
    """A checksum, a numbering plan or an issuer's own mark says so."""
    TOLD = 4
    """Who holds the data says so."""


@dataclass(frozen=True, kw_only=True)
class Detector:
    """One type of detector.

    Args:
        name: of the detector.
        kinds: of the spans that it may give.
        evidence: what its spans rest on.
        find: gives the spans of a text, in time that grows with the length of the text and not faster.
        missing: says what has to be installed before it works; empty where nothing is missing.
        default: whether it runs when no detectors are named and nothing is missing.
        summary: first line of its docstring.
    """

    name: str
    kinds: tuple[str, ...]
    evidence: Evidence
    find: Find
    missing: Callable[[], str]
    default: bool
    summary: str


DETECTORS: Registry[Detector] = Registry("detector", "reticent.data.pii.detectors")


def detector(
    name: str,
    *,
    kinds: tuple[str, ...],
    evidence: Evidence,
    missing: Callable[[], str] = lambda: "",
    default: bool = True,
) -> Callable[[Find], Find]:
    """Register a function from a text to spans (see `Detector`). Another distribution registers its own by an entry
    point of the group ``reticent.data.pii.detectors``."""

    def register(find: Find) -> Find:
        summary = (find.__doc__ or "").strip().split("\n")[0]
        found = Detector(
            name=name,
            kinds=kinds,
            evidence=evidence,
            find=find,
            missing=missing,
            default=default,
            summary=summary,
        )
        DETECTORS.add(name, found)
        return find

    return register
