# SPDX-License-Identifier: Apache-2.0
"""Gate: do the results of an audit keep to the limits that a team has set? For CI, so it fails closed.

What is compared. A limit is held against the largest number of that metric over all attacks that ran, since an
attacker is free to choose the best one. ``on`` says which part of the estimate:

- ``"value"`` (default): the point estimate. Passing says: the best attack found no more than this.
- ``"upper"``: the interval's upper end, the strict reading of a privacy officer: passing says that more than this is
  excluded at the stated confidence. With few units it fails for lack of evidence.
- ``"lower"``: the interval's lower end: fails only where the excess is beyond doubt. For noisy nightly runs.

What cannot be checked (the metric was refused, its attack was switched off, the interval has no such end, the split is
confounded, or the audit had too few units to pass anyone) never passes: exit code 2.

Against a baseline (``baseline``, the difference to an earlier audit of the same coins) the gate fails only where the
paired interval is certain that more leaks than before.

The limits themselves are entries of `reticent.core.metrics`: a new one is an argument here and a flag of the command.

A promise of differential privacy that the audit broke fails whatever the limits are. ``max_promised_epsilon`` limits
the promise itself: an upper bound that is proved, not measured, so ``on`` and confounding play no part.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from reticent.core import validate
from reticent.core.atomic import write_text
from reticent.core.difference import Difference
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.limit_arguments import with_limits
from reticent.core.metrics import Limit, Metric, limits
from reticent.core.outputs import JUNIT, refuse_foreign
from reticent.core.refuse_impossible import refuse_impossible
from reticent.core.results import GuaranteeAudit, Results

On = Literal["lower", "value", "upper"]
MARKS = {"passed": "PASS", "failed": "FAIL", "unknown": "CANNOT CHECK"}


@dataclass(frozen=True, kw_only=True)
class LimitCheck:
    """One limit and what became of it.

    Args:
        name: the option, e.g. ``"max_auc"``.
        limit: the largest number allowed, in the metric's unit.
        state: ``"passed"``, ``"failed"`` (the limit is exceeded) or ``"unknown"`` (cannot be checked: counts against).
        measured: the largest estimate of that metric; None when there is none.
        attack: whose estimate that is.
        reason: what was compared, or why nothing could be, in plain words.
    """

    name: str
    limit: float
    state: Literal["passed", "failed", "unknown"]
    measured: Estimate | None
    attack: str
    reason: str

    @property
    def line(self) -> str:
        """One line for the console."""
        return f"{MARKS[self.state]:<12}  {self.name} {self.limit:g}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class GateOutcome:
    """All checks of one gate.

    Examples:
        >>> check = LimitCheck(name="max_auc", limit=0.6, state="passed", measured=None, attack="loss", reason="0.52")
        >>> outcome = GateOutcome(checks=(check,))
        >>> outcome.exit_code, outcome.lines[-1]
        (0, 'Gate passed: every limit was checked and kept.')
    """

    checks: tuple[LimitCheck, ...]

    @property
    def exit_code(self) -> int:
        """0: all passed. 1: a limit is exceeded. 2: none is known to be, but one could not be checked."""
        states = {check.state for check in self.checks}
        return 1 if "failed" in states else 2 if "unknown" in states else 0

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines to print: one for each check and one for the outcome."""
        last = {
            0: "Gate passed: every limit was checked and kept.",
            1: "Gate failed: a limit is exceeded.",
            2: "Gate failed: what cannot be checked does not pass.",
        }
        return (*(check.line for check in self.checks), last[self.exit_code])


class _Limit(NamedTuple):
    metric: Metric
    limit: Limit
    allowed: float


@with_limits
def gate(
    results: Results,
    *,
    max_promised_epsilon: float | None = None,
    promised_unit: str = "user",
    on: On = "value",
    baseline: Difference | None = None,
    **given: float | None,
) -> GateOutcome:
    """Check the limits that are given, all "no more than", and that no promise of differential privacy is broken.

    Args:
        results: of an audit.
        limits: each an argument of its own.
        max_promised_epsilon: ε that the training promised, for ``promised_unit``.
        promised_unit: ``"record"`` or ``"user"``; per user a promise per record counts with what it implies.
        on: which part of the estimate is compared, see the module.
        baseline: what changed since an earlier audit (`reticent.diff`).

    Raises:
        BadInput: no limit is given, or one that makes no sense, or the results hold numbers that cannot be.
    """
    catalogue = limits()
    unknown = sorted(set(given) - set(catalogue))
    if unknown:
        raise TypeError(f"gate() got an unexpected keyword argument {unknown[0]!r}")
    validate.one_of(("lower", "value", "upper"), on=on)
    refuse_impossible(results)
    asked = {name: limit for name in catalogue if (limit := given.get(name)) is not None}
    shares = {name for name, (metric, _) in catalogue.items() if (metric.least, metric.most) == (0, 1)}
    validate.in_range(0, 1, **{name: limit for name, limit in asked.items() if name in shares})
    validate.one_of(("record", "user"), promised_unit=promised_unit)
    promised = {} if max_promised_epsilon is None else {"max_promised_epsilon": max_promised_epsilon}
    validate.non_negative(**{name: limit for name, limit in (asked | promised).items() if name not in shares})
    if not asked and not promised and baseline is None:
        names = ", --".join([*catalogue, "max_promised_epsilon"])
        raise BadInput("gate", "has no limit to check", f"Give at least one of: --{names}.")
    checks = [_check(results, _Limit(*catalogue[name], allowed=limit), on) for name, limit in asked.items()]
    if max_promised_epsilon is not None:
        checks.append(_promised(results.promise, max_promised_epsilon, promised_unit))
    if baseline is not None:
        checks.append(_against(baseline))
    if results.promise is not None and results.promise.broken:
        checks.append(_broken(results.promise))
    return GateOutcome(checks=tuple(checks))


def _promised(promise: GuaranteeAudit | None, limit: float, unit: str) -> LimitCheck:
    """The limit on the ε that was promised: what is proved, so there is no interval."""
    name = "max_promised_epsilon"
    epsilon = None
    if promise is not None:
        epsilon = promise.epsilon if promise.unit == unit else promise.user_epsilon if unit == "user" else None
    if promise is None or epsilon is None:
        gap = "was trained without a promise" if promise is None else f"promises no ε per {unit}"
        missing = f"cannot be checked: the model {gap}; train with --epsilon {limit:g} --unit {unit}"
        return LimitCheck(name=name, limit=limit, state="unknown", measured=None, attack="", reason=missing)
    exceeded = epsilon > limit
    reason = f"ε = {epsilon:.4g} per {unit} at δ = {promise.delta:g} is {'above' if exceeded else 'within'} the limit"
    return LimitCheck(
        name=name, limit=limit, state="failed" if exceeded else "passed", measured=None, attack="", reason=reason
    )


def _against(baseline: Difference) -> LimitCheck:
    """More leakage than before, beyond the paired interval's doubt."""
    before = f"the audit of {baseline.before.created[:10]}"
    worst = max(baseline.more, key=lambda change: change.change.lo, default=None)
    if not baseline.changes:
        gap = f"cannot be checked: no number of {before} could be compared ({'; '.join(baseline.left_out)})"
        return LimitCheck(name="baseline", limit=0.0, state="unknown", measured=None, attack="", reason=gap)
    if worst is None:
        reason = f"no attack is certain to find more than in {before}, of {len(baseline.changes)} numbers compared"
        return LimitCheck(name="baseline", limit=0.0, state="passed", measured=None, attack="", reason=reason)
    shown = f"{worst.metric} of {worst.attack} changed by {_interval(worst.change)} since {before}"
    more = f", and {len(baseline.more) - 1} more numbers rose" if len(baseline.more) > 1 else ""
    return LimitCheck(
        name="baseline", limit=0.0, state="failed", measured=worst.change, attack=worst.attack, reason=shown + more
    )


def _broken(promise: GuaranteeAudit) -> LimitCheck:
    shown = [
        f"ε ≥ {row.estimate.lo:.4g} per {row.unit} ({row.units}; {row.assumption})"
        for row in promise.bounds
        if row.broken
    ]
    shown += [f"the check {check.name!r} failed" for check in promise.checks if check.passed is False]
    shown += [f"an AUC above {promise.auc_limit:.4g}"] if promise.auc_broken else []
    shown += [
        f"more than {row.limit:.4g} of members at {row.fpr:g} false alarms" for row in promise.rates if row.broken
    ]
    reason = f"broken by this audit: {', '.join(shown)}. Promised was {promise.sentence}"
    return LimitCheck(name="promise", limit=promise.epsilon, state="failed", measured=None, attack="", reason=reason)


def write_junit(path: str | Path, outcome: GateOutcome) -> None:
    """Write the outcome as a JUnit XML file, atomically: exceeded limits are failures, unchecked ones are errors.

    Raises:
        BadInput: the file cannot be written, or is there and is none that this function wrote.
    """
    refuse_foreign(path, JUNIT)
    states = [check.state for check in outcome.checks]
    counts = {
        "tests": str(len(states)),
        "failures": str(states.count("failed")),
        "errors": str(states.count("unknown")),
    }
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": "reticent gate", **counts})
    for check in outcome.checks:
        case = ET.SubElement(
            suite, "testcase", {"classname": "reticent.gate", "name": _xml(f"{check.name} {check.limit:g}")}
        )
        if check.state == "passed":
            ET.SubElement(case, "system-out").text = _xml(check.reason)
        else:
            tag = "failure" if check.state == "failed" else "error"
            ET.SubElement(case, tag, {"message": _xml(check.reason), "type": check.state}).text = _xml(check.line)
    ET.indent(root)
    write_text(
        path, '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n", private=False
    )


def _check(results: Results, limit: _Limit, on: On) -> LimitCheck:
    candidates = results.measured(limit.metric.name, limit.limit.levels)
    if results.verdict.status == "confounded":
        reason = (
            "cannot be checked: members and held-out differ without any model, so no number here is about membership"
        )
        return _unknown(limit, reason)
    if not candidates:
        levels = f" of level {' or '.join(limit.limit.levels)}" if limit.limit.levels else ""
        absent = f"cannot be checked: no {limit.metric.name}{levels} in these results; {limit.limit.needs}"
        return _unknown(limit, absent + _held_out(results, limit))
    attack, estimate = max(candidates, key=lambda pair: _end(pair[1], on))
    compared = _end(estimate, on)
    shown = f"{on} {compared:.4g} of {_interval(estimate)} ({attack}, n = {estimate.n:,})"
    if math.isinf(compared):
        return _unknown(limit, f"cannot be checked: the interval {_interval(estimate)} of {attack} has no {on} end")
    exceeded = compared > limit.allowed
    if not exceeded and results.verdict.status == "underpowered":
        return _unknown(limit, f"cannot be checked: {shown} rests on too few units to pass anyone")
    return LimitCheck(
        name=limit.limit.flag,
        limit=limit.allowed,
        state="failed" if exceeded else "passed",
        measured=estimate,
        attack=attack,
        reason=f"{shown} is {'above' if exceeded else 'within'} the limit",
    )


def _unknown(limit: _Limit, reason: str) -> LimitCheck:
    name = limit.limit.flag
    return LimitCheck(name=name, limit=limit.allowed, state="unknown", measured=None, attack="", reason=reason)


def _held_out(results: Results, limit: _Limit) -> str:
    counts = [power.n_held_out for power in results.power if power.level in limit.limit.levels]
    counts += [curve.n_held_out for curve in results.curves if curve.level in limit.limit.levels]
    return f" (this audit had {max(counts):,})" if counts and limit.metric.name.startswith("tpr@") else ""


def _end(estimate: Estimate, on: On) -> float:
    return {"lower": estimate.lo, "value": estimate.value, "upper": estimate.hi}[on]


def _interval(estimate: Estimate) -> str:
    unit = f" {estimate.unit}" if estimate.unit else ""
    ends = [f"{end:.4g}" if math.isfinite(end) else "unbounded" for end in (estimate.lo, estimate.hi)]
    return f"{estimate.value:.4g}{unit} [{', '.join(ends)}]"


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold even escaped."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
