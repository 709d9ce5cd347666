# SPDX-License-Identifier: Apache-2.0
"""Findings of an audit: an Estimate is a number with its interval, a Finding is an Estimate with a meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from reticent.core.field_types import FLAT, Count, InRange, Lower, OneOf, Share, Upper

ACCESS = ("text", "top_k", "logprob", "logits", "hidden", "grad", "weights", "train_time")
"""Views of the model that attackers have, from least to most."""

Access = Annotated[str, OneOf(*ACCESS)]
Level = str
"""The thing attacked. Each audit family says what its levels mean (`reticent.auditing.leak_level`)."""
Probability = Annotated[float, InRange(above=0, below=1)]


class Severity(StrEnum):
    """How much a finding matters. ``none`` means: looked for and not detected, never "safe".

    Examples:
        >>> Severity("high"), [str(severity) for severity in Severity]
        (<Severity.HIGH: 'high'>, ['critical', 'high', 'medium', 'low', 'none'])
    """

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """An attacker: what they see of the model and what else they must have.

    Args:
        access: what the attacker sees of the model, from least to most.
        needs: what the attacker must have beyond access, e.g. a reference model, or fresh texts of the user.

    Examples:
        >>> ThreatModel(access="logprob", needs=("reference model",)).access
        'logprob'
        >>> ThreatModel(access="sight")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: access 'sight' is not one of ('text', ...
    """

    access: Access
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.access not in ACCESS:
            raise ValueError(f"access {self.access!r} is not one of {ACCESS}")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number that is never shown without its interval.

    Args:
        value: the point estimate, in ``unit``.
        lo: lower end of the interval; ``-inf`` (in JSON: null) for one-sided intervals without a lower bound.
        hi: upper end of the interval; ``inf`` (in JSON: null) for one-sided intervals without an upper bound.
        n: how many units it rests on: records, users or canaries; members and held-out together.
        method: how the interval was made, e.g. ``"DeLong"`` or ``"Clopper-Pearson"``.
        confidence: coverage of the interval, e.g. 0.95.
        unit: what value, lo and hi are measured in, e.g. ``"bits"``; empty for a pure number.
        higher_is_worse: whether a larger value means that the model gives away more.
        joint: where several intervals are shown, the probability that all of them hold; None (in JSON: null) for one by
            itself.
        alone: ends of the 95 % interval of this number by itself, which is narrower; not to be read after picking the
            largest of several. None (in JSON: null) where it was not made.

    Examples:
        >>> print(Estimate(value=0.71, lo=0.64, hi=0.78, n=400, method="DeLong"))
        0.710 [0.640, 0.780], n=400
    """

    value: float
    lo: Lower
    hi: Upper
    n: Count
    method: str
    confidence: Probability = 0.95
    unit: str = ""
    higher_is_worse: bool = True
    joint: Probability | None = None
    alone: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.value) or math.isnan(self.lo) or math.isnan(self.hi):
            raise ValueError(f"an estimate needs numbers, got {self.value}, [{self.lo}, {self.hi}]")
        if not self.lo <= self.hi:
            raise ValueError(f"the interval [{self.lo}, {self.hi}] is upside down")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must be in (0, 1), got {self.confidence}")

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.value:.3f}{unit} [{self.lo:.3f}, {self.hi:.3f}], n={self.n}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One statement of the report.

    Args:
        attack: name in the registry of attacks, or of the check.
        level: what was attacked: one record, one user through all of the user's texts, planted secrets
            (``"canary"``), passages that the model was made to write, or identifiers that were ranked among others of
            their form.
        metric: what was measured, by its name in `reticent.core.metrics`: ``"auc"`` (0.5 = chance), ``"tpr@0.01"``
            (share of members found at 1 % false alarms), ``"exposure_bits"``, ``"epsilon_lower"`` (the bound that
            counts), ``"epsilon_if"`` (a bound by itself, if its assumption holds), and others.
        estimate: the number.
        severity: how much it matters; ``"none"``: looked for and not detected, never "safe".
        threat: who could do this.
        statement: the finding in plain words.
        advice: what to do about it; empty where there is nothing to do.
        notes: caveats: edge cases that rows hit, assumptions, corrections.
        p_value: of "nothing leaks", adjusted for everything that the report tests, by re-thrown coins; None (in JSON:
            null) where the number carries no test.

    Examples:
        >>> auc = Estimate(value=0.71, lo=0.64, hi=0.78, n=400, method="DeLong")
        >>> finding = Finding(
        ...     attack="loss", level="record", metric="auc", estimate=auc, severity=Severity.MEDIUM,
        ...     threat=ThreatModel(access="logprob"), statement="Trained records can be told from held-out ones.",
        ... )
        >>> print(finding.severity, finding.estimate)
        medium 0.710 [0.640, 0.780], n=400
    """

    attack: str
    level: Level
    metric: str
    estimate: Estimate = field(metadata=FLAT)
    severity: Severity
    threat: ThreatModel = field(metadata=FLAT)
    statement: str
    advice: str = ""
    notes: tuple[str, ...] = field(default=())
    p_value: Share | None = None

    def __post_init__(self) -> None:
        if not self.level.isidentifier():
            raise ValueError(f"level {self.level!r} is no name, such as record, user, canary, passage or identifier")
