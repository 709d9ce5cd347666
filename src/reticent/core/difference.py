# SPDX-License-Identifier: Apache-2.0
"""Difference: two audits of the same coins side by side. Plain data; `reticent.workflows.diff` fills it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reticent.core.finding import Estimate


@dataclass(frozen=True, kw_only=True)
class Change:
    """One number of both audits on the same units.

    Args:
        attack: whose number it is.
        level: ``"record"``, ``"user"`` or ``"canary"``.
        metric: ``"auc"``, ``"tpr@0.1"``, … or ``"exposure_bits"``.
        before, after: of the first and the second audit, on the shared units.
        change: after minus before, paired: above 0 means that more leaks after.
    """

    attack: str
    level: str
    metric: str
    before: Estimate
    after: Estimate
    change: Estimate

    @property
    def direction(self) -> str:
        """``"more"``, ``"less"`` or ``"same"``: what the interval of the change is certain of."""
        return "more" if self.change.lo > 0 else "less" if self.change.hi < 0 else "same"


@dataclass(frozen=True, kw_only=True)
class AuditSummary:
    """One of the two audits.

    Args:
        title: of its results.
        created: ISO 8601, UTC.
        status: of its verdict.
        headline: of its verdict.
        about: models and data, from its provenance.
    """

    title: str
    created: str
    status: str
    headline: str
    about: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two audits side by side.

    Args:
        before, after: the two audits.
        changes: intervals of the changes hold together with ``confidence``.
        confidence: that all intervals hold.
        shared: how many units both audits have, by level.
        left_out: what could not be compared, and why.
    """

    before: AuditSummary
    after: AuditSummary
    changes: tuple[Change, ...]
    confidence: float
    shared: dict[str, int]
    left_out: tuple[str, ...]

    @property
    def more(self) -> tuple[Change, ...]:
        """Changes that are certain to leak more after."""
        return tuple(change for change in self.changes if change.direction == "more")

    @property
    def less(self) -> tuple[Change, ...]:
        """Changes that are certain to leak less after."""
        return tuple(change for change in self.changes if change.direction == "less")

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        if not self.changes:
            return "Nothing could be compared."
        if self.more and self.less:
            return "Some attacks find more than before, others less."
        if self.more:
            return "The second model leaks more than the first."
        if self.less:
            return "The second model leaks less than the first."
        return "No difference that these audits could be certain of."
