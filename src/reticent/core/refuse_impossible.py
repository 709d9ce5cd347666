# SPDX-License-Identifier: Apache-2.0
"""Numbers that no audit can give: in a file that was edited or damaged they must not pass a gate."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.metrics import metric as entry
from reticent.core.results import Results

ROUNDING = 1e-6


def refuse_impossible(results: Results) -> None:
    """Refuse results with a number out of its range, or an estimate far outside of its own interval.

    An estimate may lie a little outside of its interval: some intervals are made for all attacks together, or around
    another centre. It cannot lie further out than the interval is wide.

    Raises:
        BadInput: there is one; names it.
    """
    for what, metric, estimate in _estimates(results):
        reason = _impossible(metric, estimate)
        if reason:
            raise BadInput(
                f"these results ({what})", f"hold a number that no audit gives: {reason}", "Run the audit again."
            )


def _estimates(results: Results) -> Iterator[tuple[str, str, Estimate]]:
    for finding in results.all_findings:
        yield f"{finding.attack}, {finding.metric}", finding.metric, finding.estimate
    for tier in results.exposure:
        yield f"exposure, {tier.tier}", "exposure_bits", tier.bits
    for row in results.extraction.rows if results.extraction else ():
        if row.metric == "share":
            yield f"{row.attack}, {row.group}", "extracted", row.target
    if results.promise is not None:
        for bound in results.promise.bounds:
            yield f"promise, {bound.unit}", "epsilon_lower", bound.estimate


def _impossible(metric: str, estimate: Estimate) -> str:
    definition = entry(metric)
    if not definition.least - ROUNDING <= estimate.value <= definition.most + ROUNDING:
        return f"{metric} = {estimate.value:g}"
    wide = estimate.hi - estimate.lo
    outside = max(estimate.lo - estimate.value, estimate.value - estimate.hi)
    if math.isfinite(outside) and outside > max(wide if math.isfinite(wide) else 0.0, ROUNDING):
        return f"{metric} = {estimate.value:g} outside of its interval [{estimate.lo:g}, {estimate.hi:g}]"
    if estimate.n < 0:
        return f"n = {estimate.n}"
    return ""
