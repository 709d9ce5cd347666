# SPDX-License-Identifier: Apache-2.0
"""Results: everything that one audit found, as plain data. The audit fills it, the report and the gate read it.

No private text travels here: units are named by a keyed hash of their id (``ExposedUnit.unit``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reticent.core.finding import Estimate, Finding
from reticent.core.frame import frame, html

if TYPE_CHECKING:
    import pandas as pd

STATUSES = ("leaks", "not_detected", "confounded", "underpowered")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer in plain words.

    Args:
        status: ``"leaks"``: at least one corrected interval excludes chance. ``"not_detected"``: none does, and the
            audit could have seen the effect stated in ``Results.power``. ``"confounded"``: members and held-out
            differ without any model, so no membership claim can be made. ``"underpowered"``: too few units.
        headline: one sentence.
        sentences: what follows from it, one fact each.
    """

    status: str
    headline: str
    sentences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is not one of {STATUSES}")


@dataclass(frozen=True, kw_only=True)
class AttackRun:
    """One row of the table of attacks, run or not."""

    name: str
    level: str
    access: str
    paper: str
    summary: str
    """First line of the attack's docstring."""
    ran: bool
    why_not: str = ""
    """Why it was switched off, and what would switch it on."""
    params: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A ROC curve, thinned for plotting: rising ``fpr`` and ``tpr`` of equal length, both from 0 to 1.

    Args:
        band: rising ``(fpr, lo, hi)``: between these lies the whole true curve at 95 %, users respected
            (`reticent.stats.roc_band`). Of the level's primary attack, which was named before scores were seen; empty
            for the others, and where too few units decide.
    """

    attack: str
    level: str
    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    n_member: int
    n_held_out: int
    band: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Score histograms of members and held-out on the same ``edges`` (one more edge than counts)."""

    attack: str
    level: str
    edges: tuple[float, ...]
    member: tuple[int, ...]
    held_out: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CanaryExposure:
    """How much more likely the model finds planted secrets of one tier than secrets never planted.

    Args:
        tier: e.g. ``"planted 16 times"`` or ``"control (never planted)"``.
        kind: ``"record"`` or ``"user"`` canaries.
        repetitions: how often each secret of the tier was planted; 0 for controls.
        bits: exposure in bits (log2 of reference size - log2 of rank), the tier's median over its canaries.
        each: exposure of every canary of the tier, in bits.
        ceiling: the largest exposure this reference set can show, in bits.
        fitted: the median by a curve fitted to the references, which goes beyond the ceiling; approximate, with an
            interval of its own. None where no curve fits.
    """

    tier: str
    kind: str
    repetitions: int
    bits: Estimate
    each: tuple[float, ...]
    ceiling: float
    fitted: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class ExposedUnit:
    """One record or user, ranked by how exposed it is.

    Args:
        unit: hash of the id with the secret key of the run folder.
        level: ``"record"`` or ``"user"``.
        rank: 1 = most exposed.
        score: of ``attack``.
        p_value: share of held-out units that score at least as high (with +1 smoothing).
        text: the text, only when the person asked for it.
    """

    unit: str
    level: str
    rank: int
    attack: str
    score: float
    p_value: float
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Confound:
    """What can be told about membership without any model."""

    blind_auc: Estimate | None
    """Cross-validated AUC of a bag-of-words and length classifier; None when too few units, or texts it cannot read."""
    near_duplicates: int
    """Evaluated members that have a near-duplicate among the held-out."""
    near_duplicate_share: Estimate | None
    separable: bool
    """Whether the split can be told apart without the model: then no membership claim is made."""
    note: str = ""
    unchecked: bool = False
    """Whether a person's own lists could not be looked at for that: then no membership claim is made either."""

    @property
    def no_claim(self) -> bool:
        """Whether nothing can be claimed about membership."""
        return self.separable or self.unchecked


@dataclass(frozen=True, kw_only=True)
class Power:
    """The smallest effect that this audit could have seen."""

    level: str
    metric: str
    smallest: float
    """Detected with ``power`` probability at the corrected significance."""
    power: float
    n_member: int
    n_held_out: int


@dataclass(frozen=True, kw_only=True)
class LevelTest:
    """How it was decided whether anything leaks at one level: the real coins against re-thrown ones.

    Args:
        level: ``"record"``, ``"user"`` or ``"canary"``.
        primary: the attack that was named before scores were seen and has most of the error; empty: none.
        rethrown: what changed sides, in words.
        exact: whether recorded coins say so; otherwise it is assumed that units could as well have been on the other
            side.
        statistics: how many were tested.
        draws: labellings that the real one was held against.
        error: the level's part of the report's error.
        p_value: the smallest of the level, adjusted for everything that the report tests.
    """

    level: str
    primary: str
    rethrown: str
    exact: bool
    statistics: int
    draws: int
    error: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class GuaranteeBound:
    """One audited lower bound on ε and the promise that it is held against.

    Args:
        units: what had the coins: ``"records"``, ``"users"``, ``"planted secrets"`` or ``"canary users"``.
        unit: what one coin added or left out: ``"record"`` or ``"user"``.
        assumption: under which the bound holds.
        estimate: the bound, at the δ of the promise that it is held against.
        promised: the ε promised for this unit at that δ; None where the promise says nothing that compares.
        why_not: why there is nothing to compare with; empty when there is.
        alone: it holds by itself, not together with the other numbers, so it breaks no promise.
    """

    units: str
    unit: str
    assumption: str
    estimate: Estimate
    promised: float | None
    why_not: str = ""
    alone: bool = False

    @property
    def broken(self) -> bool:
        """Whether more leaked than was promised, beyond the interval's doubt."""
        return not self.alone and self.promised is not None and self.estimate.lo > self.promised


@dataclass(frozen=True, kw_only=True)
class GuaranteeRate:
    """True positives at one false positive rate, and the most that the promise allows there.

    Args:
        fpr: the false positive rate.
        limit: no attack on the promised unit can be expected to find a larger share of members.
        estimate: of the attack that is certain to find most; None: none was measured.
        attack: whose it is.
    """

    fpr: float
    limit: float
    estimate: Estimate | None = None
    attack: str = ""

    @property
    def broken(self) -> bool:
        """Whether more were found than the promise allows, beyond the interval's doubt."""
        return self.estimate is not None and self.estimate.lo > self.limit


@dataclass(frozen=True, kw_only=True)
class GuaranteeCheck:
    """One check that the engine made of itself while it trained.

    Args:
        name: what was checked.
        measured: what was found; empty where that would tell of the data.
        bound: what it had to be.
        passed: whether it was; None: it was not checked.
    """

    name: str
    measured: str
    bound: str
    passed: bool | None


@dataclass(frozen=True, kw_only=True)
class GuaranteeAudit:
    """What differential privacy was promised when the model was trained, beside what the audit found.

    Args:
        sentence: the promise with ε, δ, unit and neighbouring relation.
        unit: what it protects: ``"record"`` or ``"user"``.
        epsilon: ε for that unit, of the accountant.
        delta: δ of the promise.
        user_epsilon: the ε for a user that a promise per record implies (group privacy); None: none is known.
        user_delta: δ of ``user_epsilon``; None without it.
        bounds: the audited lower bounds.
        auc: of the attack on the same unit whose AUC is certain to be largest; None: none was measured.
        auc_attack: whose it is.
        auc_limit: no attack on that unit can have a larger expected AUC if the promise holds.
        auc_slack: how much above the limit the expected AUC in one run can still be, as each unit is compared with the
            others that are left out, not with itself.
        rates: the same of true positives at fixed false positive rates.
        mu: no more than μ-Gaussian differential privacy with this μ allows is promised, at every δ from ``delta`` on.
        roc: (false positive rate, most true positives) that the promise allows, as corners from 0 to 1.
        relation: which data sets cannot be told apart: a unit is added or removed, zeroed out or replaced.
        checks: of the engine's self-check.
        not_covered: what the promise does not speak of, in plain words.
        not_compared: which bounds could not be had or held against the promise, and why.
        together: what this training and the private ones beside it on the same data cost together, in sentences; empty
            where there is no other.
    """

    sentence: str
    unit: str
    epsilon: float
    delta: float
    user_epsilon: float | None
    user_delta: float | None
    bounds: tuple[GuaranteeBound, ...]
    auc: Estimate | None
    auc_attack: str
    auc_limit: float
    checks: tuple[GuaranteeCheck, ...]
    not_covered: tuple[str, ...]
    not_compared: tuple[str, ...]
    auc_slack: float = 0.0
    rates: tuple[GuaranteeRate, ...] = ()
    mu: float | None = None
    roc: tuple[tuple[float, float], ...] = ()
    relation: str = "add_or_remove"
    together: tuple[str, ...] = ()

    @property
    def auc_broken(self) -> bool:
        """Whether the AUC is above what the promise allows, beyond the interval's doubt."""
        return self.auc is not None and self.auc.lo > self.auc_limit + self.auc_slack

    @property
    def broken(self) -> bool:
        """Whether the audit found more than was promised, or a check of the engine failed."""
        above = any(row.broken for row in self.bounds) or any(row.broken for row in self.rates)
        return above or self.auc_broken or any(one.passed is False for one in self.checks)


@dataclass(frozen=True, kw_only=True)
class ExtractionRow:
    """How much of one group of secrets, records or texts one attack pulls out of the model.

    Args:
        attack: name of the attack.
        family: ``"extraction"`` or ``"personal data"``.
        group: what was to be pulled out, e.g. ``"planted 4 times"``.
        metric: ``"share"``: of the group's units, those that were pulled out whole. ``"mean"``: how much of a unit, on
            average, from 0 to 1.
        target: of the model under audit.
        base: of the model that it was tuned from, attacked alike; None without one.
        difference: target minus base, of the same units where they are the same; None without a base.
        n: units of the group.
        access: what the attacker sees of the model, one of ``core.finding.ACCESS``.
        summary: what the attack does, in a line.
        notes: caveats.
        units: what the group is made of: ``"secrets"``, ``"records"`` or ``"texts"``.
        control: whether the group was never trained on, and shows what comes out by chance.
        partial: only a part of each unit comes out, to an attacker who has the rest.
        above_control: of the model under audit, this group minus its control group; None without a control group.
    """

    attack: str
    family: str
    group: str
    metric: str
    target: Estimate
    base: Estimate | None
    difference: Estimate | None
    n: int
    access: str
    summary: str
    notes: tuple[str, ...] = ()
    units: str = "secrets"
    control: bool = False
    partial: bool = False
    above_control: Estimate | None = None

    def __post_init__(self) -> None:
        if self.family not in ("extraction", "personal data") or self.metric not in ("share", "mean"):
            raise ValueError(f"family {self.family!r} or metric {self.metric!r} is unknown")
        if (self.base is None) != (self.difference is None):
            raise ValueError("a base comes with a difference")

    @property
    def compared(self) -> Estimate | None:
        """What a claim of a leak rests on: the excess over the control group, else over the base; None without both.

        Where coins decided what was trained on, only training tells a group from its control.
        """
        return self.above_control if self.above_control is not None else self.difference

    @property
    def leaks(self) -> bool:
        """Whether units that were trained on come out whole and others do not, beyond the interval's doubt, and not
        as often from the base."""
        compared = self.compared
        only_here = self.difference is None or self.difference.value > 0
        return self.metric == "share" and not self.control and only_here and compared is not None and compared.lo > 0


@dataclass(frozen=True, kw_only=True)
class ExtractionCurve:
    """How many samples it takes: share of a group's secrets that come up within so many with probability ``p``.

    Args:
        group: as in `ExtractionRow`.
        control: whether the group was never trained on.
        p: the probability.
        queries: rising numbers of samples.
        target: for each the share of secrets, from the model under audit.
        base: the same from its base; empty without one.
        n: secrets in the group.
    """

    group: str
    control: bool
    p: float
    queries: tuple[float, ...]
    target: tuple[float, ...]
    base: tuple[float, ...]
    n: int


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What can be pulled out of the model.

    Args:
        rows: one for each attack and group.
        curves: one for each group of secrets.
        scheme: how the samples of ``curves`` are drawn, in words.
        notes: what was left out and why.
    """

    rows: tuple[ExtractionRow, ...]
    curves: tuple[ExtractionCurve, ...] = ()
    scheme: str = ""
    notes: tuple[str, ...] = ()

    def strongest(self, family: str, *, only_planted: bool = False) -> ExtractionRow | None:
        """The row of a family that leaks with the most certainty; where none leaks, the one nearest to it. Whole units
        come before parts.

        Args:
            family: of `ExtractionRow`.
            only_planted: look at planted secrets only, for data whose two sides differ without any model.
        """
        rows = [row for row in self.rows if row.family == family and row.metric == "share" and not row.control]
        rows = [row for row in rows if row.group.startswith("planted") or not only_planted]
        known = [
            (row.leaks, not row.partial, row.compared.lo, row.target.value, row)
            for row in rows
            if row.compared is not None
        ]
        return max(known, key=lambda one: one[:4])[4] if known else None


@dataclass(frozen=True, kw_only=True)
class Results:
    """The whole outcome of one audit."""

    title: str
    created: str
    """ISO 8601, UTC."""
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
    """What this audit cannot say, in plain words."""
    counts: dict[str, int]
    """How many records, users, canaries were read, trained on, evaluated, dropped and why."""
    provenance: dict[str, Any]
    """The manifest: models, data, seeds, versions, hardware."""
    promise: GuaranteeAudit | None = None
    """What differential privacy was promised, and whether the audit bears it out; None: nothing was promised."""
    extraction: Extraction | None = None
    """What can be pulled out of the model; None: nobody tried."""
    tests: tuple[LevelTest, ...] = ()
    """How it was decided at each level whether anything leaks."""

    def to_frame(self) -> pd.DataFrame:
        """The findings as a pandas DataFrame, one a row: level, attack, metric, value, lo, hi, n, p_value, severity."""
        return frame(self.findings)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html(self.verdict.headline, self.findings)
