# SPDX-License-Identifier: Apache-2.0
"""Told or a coincidence? Exact tests of what the synthetic text holds of units that were read and of others.

Coins, thrown again, could as well have made held-out units of those that were read. So if nothing came from reading
them, every way to choose them from all units is as likely, and ranks of how much is told of each are compared exactly.
What is told of held-out units is what coincidence gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.auditing.synthetic.collect import NEAREST, RUNS, VALUES, SyntheticEvidence
from reticent.auditing.synthetic.own_words import RUN
from reticent.auditing.synthetic.text_levels import threat
from reticent.auditing.synthetic.text_units import TextUnits
from reticent.auditing.verdict import severity
from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate, Finding, Severity
from reticent.core.section import Cell, Column, Section, Table
from reticent.stats.hypothesis import family_confidence
from reticent.stats.proportions import difference, share
from reticent.stats.rank_test import lower_p

Floats = npt.NDArray[np.float64]

LEVEL = "disclosure"
FEWEST = 5
"""Fewer units than this on a side, and nothing is tested."""
WORDS = {
    RUNS: f"a run of {RUN} words that nobody else has",
    VALUES: "a value of personal data that nobody else has",
    NEAREST: "a text that is nearer to them than to anybody else",
}
ADVICE = (
    "Do not share this text. Make it under a promise of differential privacy (reticent synthesize), then audit again."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ToldTest:
    """The test of how much is told of units.

    Args:
        kind: `RUNS`, `VALUES` or `NEAREST`.
        member, held_out: ``[M]``, ``[H]`` how much is told of each unit of the side.
        p: one-sided and exact, of this kind alone.
    """

    kind: str
    member: Floats
    held_out: Floats
    p: float


def told_tests(units: TextUnits, told: Mapping[str, Floats]) -> tuple[ToldTest, ...]:
    """A test for each kind of which anything is told; none where a side has fewer than `FEWEST` units.

    Examples:
        >>> units = TextUnits(
        ...     kind="record", rows=np.ones(12, bool), owner=tuple("abcdefghijkl"), names=tuple("abcdefghijkl"),
        ...     member=np.arange(12) < 6,
        ... )
        >>> (test,) = told_tests(units, {RUNS: np.array([3, 1, 1, 2, 1, 9, 0, 0, 0, 0, 0, 0.0])})
        >>> round(test.p, 4)
        0.0011
    """
    member = units.member
    if min(int(member.sum()), int((~member).sum())) < FEWEST:
        return ()
    return tuple(
        ToldTest(kind=kind, member=count[member], held_out=count[~member], p=lower_p(-count[member], -count[~member]))
        for kind, count in told.items()
        if count.any()
    )


def told_findings(
    tests: tuple[ToldTest, ...],
    p_values: Floats,
    units: TextUnits,
    *,
    confidence: float,
    error: float,
    confounded: bool,
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """A finding for each test, and a line for each that had to be refused.

    Args:
        tests: of `told_tests`.
        p_values: of the tests, corrected for all that is tested.
        units: that are compared.
        confidence: of all intervals of these findings together.
        error: something is told where the p-value is at most this.
        confounded: the sides differ without the text, so nothing is evidence.
    """
    single = family_confidence(confidence, max(1, 3 * len(tests)))
    findings, refused = [], []
    for test, p in zip(tests, p_values.tolist(), strict=True):
        try:
            findings.append(_finding(test, p, units.kind, single, error=error, confounded=confounded))
        except Underpowered as problem:
            refused.append(f"{test.kind}: {problem}")
    return tuple(findings), tuple(refused)


def _finding(test: ToldTest, p: float, unit: str, confidence: float, *, error: float, confounded: bool) -> Finding:
    inside, outside = ((side > 0).astype(np.float64) for side in (test.member, test.held_out))
    beyond = difference(inside, outside, confidence=confidence)
    weight = Severity.NONE if confounded else severity("extracted", beyond.lo, p=p, error=error)
    of_members = f"{int(inside.sum())} of {len(inside)} {unit}s that were read"
    of_others = f"{int(outside.sum())} of {len(outside)} that were held out"
    return Finding(
        attack=test.kind,
        level=LEVEL,
        metric="extracted",
        estimate=beyond,
        severity=weight,
        threat=threat(test.kind),
        statement=f"The synthetic text has {WORDS[test.kind]} of {of_members}, and of {of_others}, which is what "
        f"coincidence gives. Exact p = {p:.2g}.",
        advice=ADVICE if weight is not Severity.NONE else "",
        notes=(
            *(("the split is confounded: this is no evidence of leakage",) if confounded else ()),
            "an exact rank test decides, by how much is told of each",
        ),
        p_value=p,
    )


COLUMNS = (
    Column(name="told", label="The text has …"),
    Column(name="read", label="… of those that were read", kind="estimate", metric="share"),
    Column(name="held_out", label="… of those held out (coincidence)", kind="estimate", metric="share"),
    Column(name="most", label="Most of one that was read", kind="number"),
    Column(name="most_held_out", label="Most of one held out", kind="number"),
    Column(name="p", label="p, corrected", kind="number"),
)


def told_section(
    evidence: SyntheticEvidence,
    tests: tuple[ToldTest, ...],
    p_values: Floats,
    *,
    confidence: float,
    notes: tuple[str, ...],
) -> Section:
    """The part of the page: what is told, beside what coincidence gives; no text, no name."""
    single = family_confidence(confidence, max(1, 3 * len(tests)))
    rows: list[tuple[Cell, ...]] = [
        (
            WORDS[test.kind],
            _share(test.member, single),
            _share(test.held_out, single),
            _most(test.member),
            _most(test.held_out),
            p,
        )
        for test, p in zip(tests, p_values.tolist(), strict=True)
    ]
    table = Table(
        name="synthetic-told",
        title="What the synthetic text has of people, and what coincidence gives",
        columns=COLUMNS,
        rows=tuple(rows),
        caption=f"Units are {evidence.units.kind}s. What the text has of units that were never read is coincidence; a "
        "number without it says nothing.",
    )
    return Section(
        name="synthetic-text",
        title="Synthetic text",
        lede="What the text itself gives away of the texts that it was made from, to somebody who has no model.",
        tables=(table,) if rows else (),
        notes=(*_about(evidence), *notes),
        needs_membership=False,
    )


def _about(evidence: SyntheticEvidence) -> tuple[str, ...]:
    file, (inside, outside) = evidence.file, evidence.nearest
    copies = f"{file.copies_of_members} are word for word a text that was read, {file.copies_of_held_out} one held out."
    near = (
        (
            f"Half of the synthetic texts share more than {inside:.0%} of their words with the closest text that was "
            f"read, and more than {outside:.0%} with the closest one held out. Without the second number the first one "
            "says nothing, and where one side has more texts its closest one is closer.",
        )
        if np.isfinite([inside, outside]).all()
        else ()
    )
    maker = (f"The texts were made by {file.mechanism}.",) if file.mechanism else ()
    promise = (
        f"Promised: {file.promise.sentence}." if file.promise is not None else "No promise lies beside these texts."
    )
    return (f"{len(file.texts)} synthetic texts. {copies}", *near, *maker, promise)


def _share(counts: Floats, confidence: float) -> Estimate:
    return share((counts > 0).astype(np.float64), confidence=confidence)


def _most(counts: Floats) -> float:
    return round(float(counts.max()), 2)
