# SPDX-License-Identifier: Apache-2.0
"""GuaranteeAudit: the differential privacy that was promised when a model was trained, beside what an audit found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from reticent.core.field_types import InRange, OneOf, Share
from reticent.core.finding import Estimate

Unit = Annotated[str, OneOf("record", "user")]
NotNegative = Annotated[float, InRange(least=0)]


@dataclass(frozen=True, kw_only=True)
class GuaranteeBound:
    """One audited lower bound on ε and the promise that it is held against.

    Args:
        units: what had the coins: ``"records"``, ``"users"``, ``"planted secrets"`` or ``"canary users"``.
        unit: what one coin added to the training data or left out.
        assumption: under which the bound holds.
        estimate: the bound, at the δ of the promise that it is held against.
        promised: the ε promised for this unit at that δ (of the μ that covers the whole curve, for a bound on μ); None
            (in JSON: null) where the promise says nothing that compares.
        why_not: why there is nothing to compare with; empty when there is.
        alone: it holds by itself, not together with the other numbers, so it breaks no promise.
    """

    units: str
    unit: Unit
    assumption: str
    estimate: Estimate
    promised: NotNegative | None
    why_not: str = ""
    alone: bool = False

    @property
    def broken(self) -> bool:
        """True where more leaked than was promised, beyond the interval's doubt."""
        return not self.alone and self.promised is not None and self.estimate.lo > self.promised


@dataclass(frozen=True, kw_only=True)
class GuaranteeRate:
    """True positives at one false positive rate, and the most that the promise allows there.

    Args:
        fpr: the false positive rate.
        limit: no attack on the promised unit can be expected to find a larger share of members.
        estimate: of the attack that is certain to find most; None (in JSON: null): none was measured.
        attack: whose it is; empty without one.
    """

    fpr: Share
    limit: Share
    estimate: Estimate | None = None
    attack: str = ""

    @property
    def broken(self) -> bool:
        """True where more were found than the promise allows, beyond the interval's doubt."""
        return self.estimate is not None and self.estimate.lo > self.limit


@dataclass(frozen=True, kw_only=True)
class GuaranteeCheck:
    """One check that the engine made of itself while it trained.

    Args:
        name: what was checked.
        measured: what was found; empty where that would tell of the data.
        bound: what it had to be.
        passed: whether it was; None (in JSON: null): it was not checked.
    """

    name: str
    measured: str
    bound: str
    passed: bool | None


@dataclass(frozen=True, kw_only=True)
class GuaranteeAudit:
    """The differential privacy that was promised when the model was trained, beside what the audit found.

    Args:
        sentence: the promise with ε, δ, unit and neighbouring relation.
        unit: what it protects.
        epsilon: the accountant's ε for that unit, in nats.
        delta: δ of the promise.
        user_epsilon: the ε for a user that a promise per record implies (group privacy of the largest user); None (in
            JSON: null): none is known.
        user_delta: δ of ``user_epsilon``; None (in JSON: null) without it.
        bounds: the audited lower bounds on ε.
        auc: of the attack on the same unit whose AUC is certain to be largest; None (in JSON: null): none that could be
            compared.
        auc_attack: whose it is; empty without one.
        auc_limit: no attack on that unit can have a larger expected AUC if the promise holds.
        auc_slack: how much above the limit the expected AUC in one run can still be, as each unit is compared with the
            others that are left out, not with itself.
        rates: true positives at fixed false positive rates, and the most that the promise allows.
        mu: no more than μ-Gaussian differential privacy with this μ allows is promised, at every δ from ``delta`` on;
            None (in JSON: null): not known.
        roc: corners of the polygon that no attack can be expected above: false positive rate and true positive rate,
            from 0 to 1.
        relation: which data sets cannot be told apart: a unit is added or removed, zeroed out or replaced.
        checks: what the engine checked of itself while it trained.
        not_covered: what the promise does not speak of, in plain words.
        not_compared: which bounds could not be had or held against the promise, and why.
        together: what this training and the private ones beside it on the same data cost together, in sentences; empty
            where there is no other.
    """

    derived: ClassVar[tuple[str, ...]] = ("broken",)

    sentence: str
    unit: Unit
    epsilon: NotNegative
    delta: Share
    user_epsilon: NotNegative | None
    user_delta: Share | None
    bounds: tuple[GuaranteeBound, ...]
    auc: Estimate | None
    auc_attack: str
    auc_limit: Annotated[float, InRange(least=0.5, most=1)]
    checks: tuple[GuaranteeCheck, ...]
    not_covered: tuple[str, ...]
    not_compared: tuple[str, ...]
    auc_slack: NotNegative = 0.0
    rates: tuple[GuaranteeRate, ...] = ()
    mu: NotNegative | None = None
    roc: tuple[tuple[Share, Share], ...] = ()
    relation: Annotated[str, OneOf("add_or_remove", "zero_out", "replace_one")] = "add_or_remove"
    together: tuple[str, ...] = ()

    @property
    def auc_broken(self) -> bool:
        """True where the AUC is above what the promise allows, beyond the interval's doubt."""
        return self.auc is not None and self.auc.lo > self.auc_limit + self.auc_slack

    @property
    def broken(self) -> bool:
        """True where more was shown than was promised: a bound's lo above its promised, auc.lo above auc_limit plus
        auc_slack, a rate's lo above its limit, or a failed check."""
        above = any(row.broken for row in self.bounds) or any(row.broken for row in self.rates)
        return above or self.auc_broken or any(check.passed is False for check in self.checks)
