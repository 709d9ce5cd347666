# SPDX-License-Identifier: Apache-2.0
"""What an audit says: an Estimate is a number with its interval, a Finding is an Estimate with a meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

ACCESS = ("text", "top_k", "logprob", "logits", "hidden", "grad", "weights", "train_time")
"""What an attacker can see of the model, from least to most."""


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
    """Who could do this: what they see of the model and what else they must have.

    Examples:
        >>> ThreatModel(access="logprob", needs=("reference model",)).access
        'logprob'
        >>> ThreatModel(access="sight")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: access 'sight' is not one of ('text', ...
    """

    access: str
    needs: tuple[str, ...] = ()
    """Beyond access: "reference model", "known non-members", "fresh texts of the user", …"""

    def __post_init__(self) -> None:
        if self.access not in ACCESS:
            raise ValueError(f"access {self.access!r} is not one of {ACCESS}")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number that is never shown without its interval.

    Args:
        value: the point estimate.
        lo, hi: the interval's ends; ``-inf`` / ``inf`` for one-sided bounds.
        n: how many units it rests on (records, users or canaries; members + held-out).
        method: how the interval was made, e.g. ``"DeLong"``.
        confidence: coverage of the interval.
        unit: what ``value`` is measured in; empty for a pure number.
        higher_is_worse: whether a larger value means more leakage.
        joint: where several intervals are shown, the probability that all of them hold; None for one by itself.
        alone: the 95 % interval of this number by itself, which is narrower; not to be read after picking the largest
            of several. None where it was not made.

    Examples:
        >>> print(Estimate(value=0.71, lo=0.64, hi=0.78, n=400, method="DeLong"))
        0.710 [0.640, 0.780], n=400
    """

    value: float
    lo: float
    hi: float
    n: int
    method: str
    confidence: float = 0.95
    unit: str = ""
    higher_is_worse: bool = True
    joint: float | None = None
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
        attack: name in the attack registry, or the name of the check.
        level: what was attacked: ``"record"``, ``"user"``, ``"canary"``, ``"passage"`` where text was pulled out, or
            ``"identifier"`` where a value was ranked among others of its form.
        metric: ``"auc"``, ``"tpr@0.01"``, ``"advantage"``, ``"exposure_bits"``, ``"epsilon_lower"``, …
        estimate: the number.
        severity: how much it matters.
        threat: who could do this.
        statement: the finding in plain words.
        advice: what to do about it; empty where there is nothing to do.
        notes: caveats: rows that hit an edge case, assumptions, corrections.
        p_value: of "nothing leaks", adjusted for everything that the report tests; None where the number carries no
            test.

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
    level: str
    metric: str
    estimate: Estimate
    severity: Severity
    threat: ThreatModel
    statement: str
    advice: str = ""
    notes: tuple[str, ...] = field(default=())
    p_value: float | None = None

    def __post_init__(self) -> None:
        if not self.level.isidentifier():
            raise ValueError(f"level {self.level!r} is no name, such as record, user, canary, passage or identifier")
