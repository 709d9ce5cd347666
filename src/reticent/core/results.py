# SPDX-License-Identifier: Apache-2.0
"""Results: everything that one audit found, as plain data. The audit fills it, the report and the gate read it.

No private text travels here: units are named by a keyed hash of their id (``ExposedUnit.unit``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from reticent.core.extraction_rows import Extraction, ExtractionCurve, ExtractionRow
from reticent.core.field_types import AtLeast, Count, FreeForm, InRange, NullIs, OneOf, Share
from reticent.core.finding import Access, Estimate, Finding, Level
from reticent.core.frame import html, tidy
from reticent.core.guarantee_audit import GuaranteeAudit, GuaranteeBound, GuaranteeCheck, GuaranteeRate
from reticent.core.section import PRIVATE, Section, column

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AttackRun",
    "CanaryExposure",
    "Confound",
    "Curve",
    "Distribution",
    "ExposedUnit",
    "Extraction",
    "ExtractionCurve",
    "ExtractionRow",
    "GuaranteeAudit",
    "GuaranteeBound",
    "GuaranteeCheck",
    "GuaranteeRate",
    "LevelTest",
    "Power",
    "Results",
    "Section",
    "Verdict",
]

STATUSES = ("leaks", "not_detected", "confounded", "underpowered")

MembershipLevel = Annotated[str, OneOf("record", "user")]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer in plain words.

    Args:
        status: ``"leaks"``: at least one corrected interval excludes chance. ``"not_detected"``: none does, and the
            audit could have seen the effects in ``power``. ``"confounded"``: members and held-out differ without any
            model, so no membership claim can be made. ``"underpowered"``: too few units.
        headline: one sentence.
        sentences: what follows from it, one fact each.
    """

    status: Annotated[str, OneOf(*STATUSES)]
    headline: str
    sentences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is not one of {STATUSES}")


@dataclass(frozen=True, kw_only=True)
class AttackRun:
    """One row of the table of attacks, run or not.

    Args:
        name: in the registry of attacks, or of the check.
        level: what was attacked.
        access: what the attacker sees of the model, from least to most.
        paper: where the attack was published; empty when it is ours.
        summary: what it does: the first line of its docstring.
        ran: whether it ran.
        why_not: why it was switched off and what would switch it on; empty when it ran.
        params: its settings.
        notes: caveats: edge cases that rows hit, assumptions, corrections.
    """

    name: str
    level: Level
    access: Access
    paper: str
    summary: str
    ran: bool
    why_not: str = ""
    params: FreeForm = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A ROC curve, thinned for plotting: rising ``fpr`` and ``tpr`` of equal length, both from 0 to 1.

    Args:
        attack: name in the registry of attacks, or of the check.
        level: what was attacked: one record, or one user through all of the user's texts.
        fpr: false positive rates: share of held-out units called members.
        tpr: true positive rates: share of members called members.
        n_member: members evaluated.
        n_held_out: held-out units evaluated.
        band: rising ``(fpr, lo, hi)``: between these lies the whole true curve at 95 %, users respected
            (`reticent.stats.roc_band`). Of the level's primary attack, which was named before scores were seen; empty
            for the others, and where too few units decide.
    """

    attack: str
    level: MembershipLevel
    fpr: Annotated[tuple[Share, ...], AtLeast(2)]
    tpr: Annotated[tuple[Share, ...], AtLeast(2)]
    n_member: Count
    n_held_out: Count
    band: tuple[tuple[Share, Share, Share], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Score histograms of members and held-out on the same ``edges``.

    Args:
        attack: name in the registry of attacks, or of the check.
        level: what was attacked: one record, or one user through all of the user's texts.
        edges: of the bins, rising, in the attack's score; one more than counts.
        member: members in each bin.
        held_out: held-out units in each bin.
    """

    attack: str
    level: MembershipLevel
    edges: Annotated[tuple[float, ...], AtLeast(2)]
    member: Annotated[tuple[Count, ...], AtLeast(1)]
    held_out: Annotated[tuple[Count, ...], AtLeast(1)]


@dataclass(frozen=True, kw_only=True)
class CanaryExposure:
    """Exposure of the planted secrets of one tier: how much likelier they are to the model than secrets never planted.

    Args:
        tier: e.g. ``"planted 16 times"`` or ``"control (never planted)"``.
        kind: whether a secret was planted in records or through a made-up user.
        repetitions: how often each secret of the tier was planted; 0 for controls.
        bits: exposure in bits (log2 of reference size - log2 of rank), the tier's median over its canaries.
        each: exposure of every canary of the tier, in bits.
        ceiling: the largest exposure this reference set can show, in bits.
        fitted: the median by a skew-normal fitted to the references, in bits, which goes beyond the ceiling;
            approximate, with an interval of its own. None (in JSON: null) where none fits.
    """

    tier: str
    kind: MembershipLevel
    repetitions: Count
    bits: Estimate = field(metadata=column("Median, bits", unit=False))
    each: tuple[float, ...]
    ceiling: float
    fitted: Estimate | None = field(default=None, metadata=column("By a fitted curve", unit=False))


@dataclass(frozen=True, kw_only=True)
class ExposedUnit:
    """One record or user, ranked by how exposed it is.

    Args:
        unit: hash of the id with the secret key of the run folder.
        level: what was attacked: one record, or one user through all of the user's texts.
        rank: 1 = most exposed of its level.
        attack: whose score it is.
        score: of ``attack``; higher = more likely a member.
        p_value: share of held-out units that score at least as high, with +1 smoothing.
        text: the text; empty unless the person asked for it.
    """

    unit: str
    level: MembershipLevel
    rank: Annotated[int, InRange(least=1)]
    attack: str
    score: float
    p_value: Share
    text: str = field(default="", metadata=PRIVATE)


@dataclass(frozen=True, kw_only=True)
class Confound:
    """Clues to membership that need no model.

    Args:
        blind_auc: cross-validated AUC of a classifier that sees only the texts (bag of words and length); None (in
            JSON: null) when there are too few units, or texts that it cannot read.
        near_duplicates: evaluated members that have a near-duplicate among the held-out.
        near_duplicate_share: the same as a share of the evaluated members; None (in JSON: null) when there are none.
        separable: whether the split can be told apart without the model: then no membership claim is made.
        note: what else there is to say: also how texts were cut into words.
        unchecked: whether a person's own lists could not be looked at for that: then no membership claim is made
            either.
    """

    blind_auc: Estimate | None
    near_duplicates: Count
    near_duplicate_share: Estimate | None
    separable: bool
    note: str = ""
    unchecked: bool = False

    @property
    def no_claim(self) -> bool:
        """True where nothing can be claimed about membership."""
        return self.separable or self.unchecked


@dataclass(frozen=True, kw_only=True)
class Power:
    """The smallest effect that this audit could have seen.

    Args:
        level: what was attacked.
        metric: what it is measured in, e.g. ``"auc"``.
        smallest: detected with probability ``power`` at the corrected significance; infinite (in JSON: null): no effect
            of any size could have been seen.
        power: probability of detection.
        n_member: members evaluated.
        n_held_out: held-out units evaluated.
    """

    level: Level
    metric: str
    smallest: Annotated[float, NullIs(math.inf)]
    power: Share
    n_member: Count
    n_held_out: Count


@dataclass(frozen=True, kw_only=True)
class LevelTest:
    """The test of whether anything leaks at one level: the real coins against re-thrown ones.

    Args:
        level: what was attacked.
        primary: the attack that was named before scores were seen and has most of the error; empty: none.
        rethrown: what changed sides, in words.
        exact: whether recorded coins say so; otherwise it is assumed that units could as well have been on the other
            side.
        statistics: how many were tested.
        draws: labellings that the real one was held against.
        error: the level's part of the report's error.
        p_value: the smallest of the level, adjusted for everything that the report tests.
    """

    level: Level
    primary: str
    rethrown: str
    exact: bool
    statistics: Count
    draws: Count
    error: Share
    p_value: Share


@dataclass(frozen=True, kw_only=True)
class KindOfAttack:
    """One kind of attack, tried or not.

    Args:
        name: in plain words.
        tried: true where the results hold something of it.
        line: the question that it would answer, and what would try it; empty where it was tried.
    """

    name: str
    tried: bool
    line: str = ""


@dataclass(frozen=True, kw_only=True)
class Results:
    """The whole outcome of one audit.

    Args:
        title: what was audited, in the person's words.
        created: when, in UTC, ISO 8601.
        verdict: the answer in plain words.
        findings: one statement each: the numbers that gates and comparisons read.
        attacks: every attack that the audit knew of, run or switched off.
        curves: ROC curves.
        distributions: histograms of scores, members and held-out.
        exposure: planted secrets (canaries) by how often they were planted, and controls that never were.
        exposed: the most exposed records and users, by a keyed hash of their id.
        confound: what can be told about membership without any model.
        power: the smallest effect that this audit could have seen.
        not_tested: what this audit cannot say, in plain words.
        counts: how many records, users and canaries were read, trained on, evaluated or dropped, and why.
        provenance: the manifest: models, data, seeds, versions, hardware. Free-form; numbers that are not finite are
            the strings inf, -inf, nan.
        promise: differential privacy that was promised when the model was trained, beside what the audit found; None
            (in JSON: null): nothing was promised.
        extraction: what can be pulled out of the model, beside what its base gives; None (in JSON: null): nobody tried.
        tests: how it was decided at each level whether anything leaks.
        sections: further kinds of evidence, each with findings and tables of its own.
        kinds: kinds of attack that the audit's families know of, tried or not. Empty: an older file did not tell.
    """

    title: str
    created: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    attacks: tuple[AttackRun, ...] = ()
    curves: tuple[Curve, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    exposure: tuple[CanaryExposure, ...] = ()
    exposed: tuple[ExposedUnit, ...] = ()
    confound: Confound
    power: tuple[Power, ...]
    not_tested: tuple[str, ...]
    counts: dict[str, Count]
    provenance: FreeForm
    promise: GuaranteeAudit | None = None
    extraction: Extraction | None = None
    tests: tuple[LevelTest, ...] = ()
    sections: tuple[Section, ...] = ()
    kinds: tuple[KindOfAttack, ...] = ()

    def __post_init__(self) -> None:
        names = [section.name for section in self.sections]
        names += [table.name for section in self.sections for table in section.tables]
        if len(set(names)) != len(names):
            raise ValueError(f"two sections or tables have one name: {sorted(names)}")

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """The findings, and those of all sections after them."""
        return (*self.findings, *(finding for section in self.sections for finding in section.findings))

    def measured(self, metric: str, levels: tuple[str, ...] = ()) -> list[tuple[str, Estimate]]:
        """``(attack, estimate)`` of everything that was measured in one metric: what a limit is held against.

        Args:
            metric: as in `Finding`.
            levels: whose; empty: those of all levels.
        """
        findings = self.all_findings
        if metric == "extracted" and self.extraction is not None:  # its findings are picks of the rows
            findings = tuple(finding for section in self.sections for finding in section.findings)
        measured = [
            (finding.attack, finding.estimate)
            for finding in findings
            if finding.metric == metric and (not levels or finding.level in levels)
        ]
        if metric == "extracted" and self.extraction is not None:
            measured += [
                (f"{row.attack}, {row.group}", row.difference or row.target)
                for row in self.extraction.rows
                if row.metric == "share" and not row.control
            ]
        if metric == "exposure_bits":
            measured += [(tier.tier, tier.bits) for tier in self.exposure if tier.repetitions > 0]
        return measured

    def to_frame(self) -> pd.DataFrame:
        """Every number as a pandas DataFrame, one a row, findings first: see `reticent.core.frame.tidy`."""
        return tidy(self)

    def _repr_html_(self) -> str:
        """HTML that a notebook shows."""
        return html(self.verdict.headline, self.all_findings)
