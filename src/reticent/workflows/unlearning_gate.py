# SPDX-License-Identifier: Apache-2.0
"""Gate of an unlearning: is the AUC of forgotten against unseen rows near enough to 0.5, from both sides?

A model that has unlearned too much is told by that, so there are two limits. ``on`` is read for each: ``"upper"`` is
the strict reading, under which the whole interval has to lie within the limit, ``"lower"`` fails only beyond doubt.
What cannot be checked, since nothing was measured or too few rows judge, does not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.unlearning import Measurement, UnlearningResults
from reticent.core.unlearning_words import TOO_FEW
from reticent.workflows.gate import GateOutcome, LimitCheck, On


def gate_unlearning(
    results: UnlearningResults,
    *,
    max_forget_auc: float | None = None,
    min_forget_auc: float | None = None,
    on: On = "value",
) -> GateOutcome:
    """Check the limits that are given, over all attacks that ran.

    Args:
        results: of `reticent.verify`.
        max_forget_auc: above it what was forgotten is still known.
        min_forget_auc: below it what was forgotten is marked by its absence.
        on: which end of the interval is compared, see the module.

    Raises:
        BadInput: no limit, or limits between which 0.5 does not lie.

    """
    validate.one_of(("lower", "value", "upper"), on=on)
    limits = {"max_forget_auc": max_forget_auc, "min_forget_auc": min_forget_auc}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if not given:
        raise BadInput("gate", "has no limit to check", "Give --max_forget_auc and --min_forget_auc.")
    for name, limit in given.items():
        sensible = 0.5 <= limit <= 1 if name == "max_forget_auc" else 0 <= limit <= 0.5
        if not sensible:
            raise BadInput(f"{name}={limit:g}", "0.5 is what a model that never saw the rows has", "Give 0.6 or 0.4.")
    numbers = results.forget_measured
    return GateOutcome(checks=tuple(_checked(name, limit, numbers, on) for name, limit in given.items()))


def _checked(name: str, limit: float, numbers: Sequence[Measurement], on: On) -> LimitCheck:
    high = name.startswith("max")
    if not numbers:
        reason = "cannot be checked: no membership attack on forgotten rows ran"
        return LimitCheck(name=name, limit=limit, state="unknown", measured=None, attack="", reason=reason)
    end = _end(high=high, on=on)
    worst = (max if high else min)(numbers, key=lambda number: end(number.estimate))
    estimate, value = worst.estimate, end(worst.estimate)
    exceeded = value > limit if high else value < limit
    shown = f"AUC {estimate.value:.3f} [{estimate.lo:.3f}, {estimate.hi:.3f}] by {worst.what}"
    few = any(number.word == TOO_FEW for number in numbers)
    if few and not exceeded:
        reason = f"cannot be checked: too few rows judge ({shown})"
        return LimitCheck(name=name, limit=limit, state="unknown", measured=estimate, attack=worst.what, reason=reason)
    side = ("above" if high else "below") if exceeded else "within"
    return LimitCheck(
        name=name,
        limit=limit,
        state="failed" if exceeded else "passed",
        measured=estimate,
        attack=worst.what,
        reason=f"{shown} is {side} the limit",
    )


def _end(*, high: bool, on: On) -> Callable[[Estimate], float]:
    """The number of an estimate that is held against a limit."""
    if on == "value":
        return lambda estimate: estimate.value
    upper = high == (on == "upper")
    return lambda estimate: estimate.hi if upper else estimate.lo
