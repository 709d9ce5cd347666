# SPDX-License-Identifier: Apache-2.0
"""A detector of personal data: a function from a text to spans, and how good its evidence is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, TypeAlias

from reticent.core.record import Span
from reticent.core.registry import Registry

Find: TypeAlias = Callable[[str], Iterable[Span]]
"""``find(text)``: spans in characters of ``text``, in any order, overlapping or not."""
FindMany: TypeAlias = Callable[[Sequence[str]], Iterable[Iterable[Span]]]
"""``find_many(texts)``: for each text what ``find`` gives, faster."""
Reads: TypeAlias = Literal["raw", "even", "numbers"]


class SpanEvidence(IntEnum):
    """The evidence that a span rests on. Where spans of two detectors overlap, the better one names the characters."""

    MODEL = 0
    """A statistical model took it for one."""
    CONTEXT = 1
    """Words around it say so."""
    FORM = 2
    """It looks like one and like little else."""
    CHECKED = 3
    """A checksum, a numbering plan or an issuer's own mark says so."""
    TOLD = 4
    """The holder of the data says so."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A span that one detector gave, what it rests on, and the detector's name; no name where none gave it."""

    start: int
    end: int
    kind: str
    evidence: SpanEvidence
    detector: str = ""


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
        reads: which of a text's `Readings` ``find`` is given: the text itself, or one in which odd blanks, hyphens,
            digits and invisible characters are plain (``even``), or, for numbers, where an underscore or a Chinese
            letter is no part of a word either (``numbers``). Spans are mapped back to the text by who calls.
        joins: for a detector that reads ``numbers``: it also reads the text with tabs, line breaks and several blanks
            between digits as one blank. ``joins(parts)`` says whether a value that has such gaps between its parts is
            to be believed; ``any`` believes all.
        find_many: the same for many texts at once, where that is faster.
        example: a text, and a stretch of it that the detector finds: `reticent.testing.detectors` reads it.
        second_look: whether it looks for what other detectors missed, where it did not run itself.
    """

    name: str
    kinds: tuple[str, ...]
    evidence: SpanEvidence
    find: Find
    missing: Callable[[], str]
    default: bool
    summary: str
    reads: Reads = "raw"
    joins: Callable[[Sequence[str]], bool] | None = None
    find_many: FindMany | None = None
    second_look: bool = True
    example: tuple[str, str] | None = None


DETECTORS: Registry[Detector] = Registry("detector", "reticent.data.pii.detectors")


def nothing_missing() -> str:
    """The text on what to install, for a detector that needs nothing but this package: empty."""
    return ""


def detector(
    name: str,
    *,
    kinds: tuple[str, ...],
    evidence: SpanEvidence,
    missing: Callable[[], str] = nothing_missing,
    default: bool = True,
    reads: Reads = "raw",
    joins: Callable[[Sequence[str]], bool] | None = None,
    find_many: FindMany | None = None,
    second_look: bool = True,
    example: tuple[str, str] | None = None,
) -> Callable[[Find], Find]:
    """Register a function from a text to spans (see `Detector`). Another distribution registers its own by an entry
    point of the group ``reticent.data.pii.detectors``."""

    def register(find: Find) -> Find:
        summary = (find.__doc__ or "").strip().split("\n")[0]
        entry = Detector(
            name=name,
            kinds=kinds,
            evidence=evidence,
            find=find,
            missing=missing,
            default=default,
            summary=summary,
            reads=reads,
            joins=joins,
            find_many=find_many,
            second_look=second_look,
            example=example,
        )
        DETECTORS.add(name, entry)
        return find

    return register
