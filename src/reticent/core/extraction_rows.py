# SPDX-License-Identifier: Apache-2.0
"""Extraction: what attacks pull out of a model, a row for each attack and group of secrets, records or texts.

A field of `ExtractionRow` with `column` metadata is a column of the page's table and of the CSV file: a column is added
here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from reticent.core.field_types import Count, InRange, OneOf, Share
from reticent.core.finding import Estimate
from reticent.core.section import column


@dataclass(frozen=True, kw_only=True)
class ExtractionRow:
    """The part of one group of secrets, records or texts that one attack pulls out of the model.

    Args:
        attack: name of the attack.
        family: what kind of attack it is.
        group: what was to be pulled out, in words, e.g. ``"planted 4 times"``. Nothing is decided by it.
        metric: ``"share"``: of the group's units, those that were pulled out whole. ``"mean"``: how much of a unit, on
            average, from 0 to 1.
        target: of the model under audit.
        base: of the model that it was tuned from, attacked alike; None (in JSON: null) without one.
        difference: target minus base, paired where the units are the same; None (in JSON: null) without a base.
        n: units of the group.
        access: what the attacker sees of the model.
        summary: what the attack does, in a line.
        notes: caveats.
        units: what the group is made of, e.g. ``"secrets"``, ``"records"`` or ``"texts"``.
        control: whether the group was never trained on, and shows what comes out by chance.
        partial: only a part of each unit comes out, to an attacker who has the rest.
        above_control: of the model under audit, this group minus its control group; None (in JSON: null) without one.
        control_group: the group that shows what comes out by chance; empty for such a group itself, or without one.
        randomized: whether a coin of the package's own decided which of these made-up secrets were trained on, so that
            the row says something of training even where members and held-out differ without any model.
    """

    derived: ClassVar[tuple[str, ...]] = ("leaks",)

    attack: str
    family: Annotated[str, OneOf("extraction", "personal data")]
    group: str
    metric: Annotated[str, OneOf("share", "mean")]
    target: Estimate = field(metadata=column("This model", metric="share"))
    base: Estimate | None = field(metadata=column("Base model", metric="share"))
    difference: Estimate | None = field(metadata=column("Difference", metric="share"))
    n: Count
    access: str
    summary: str
    notes: tuple[str, ...] = ()
    units: str = "secrets"
    control: bool = False
    partial: bool = False
    above_control: Estimate | None = field(default=None, metadata=column("Above the control", metric="share"))
    control_group: str = ""
    randomized: bool = False

    def __post_init__(self) -> None:
        if self.family not in ("extraction", "personal data") or self.metric not in ("share", "mean"):
            raise ValueError(f"family {self.family!r} or metric {self.metric!r} is unknown")
        if (self.base is None) != (self.difference is None):
            raise ValueError("a base comes with a difference")

    @property
    def compared(self) -> Estimate | None:
        """The ground of a claim of a leak: the excess over the control group, else over the base; None without both.

        Where coins decided what was trained on, only training tells a group from its control.
        """
        return self.above_control if self.above_control is not None else self.difference

    @property
    def leaks(self) -> bool:
        """True where units that were trained on come out whole and others do not (above_control.lo > 0; without a
        control group difference.lo > 0), and not as often from the base."""
        compared = self.compared
        only_here = self.difference is None or self.difference.value > 0
        return self.metric == "share" and not self.control and only_here and compared is not None and compared.lo > 0

    def shown_to_leak(self, *, confounded: bool) -> bool:
        """True where it leaks and can be said to: on a confounded split only where a coin decided."""
        return self.leaks and (self.randomized or not confounded)


@dataclass(frozen=True, kw_only=True)
class ExtractionCurve:
    """Share of a group's secrets that come up within so many samples with probability ``p``.

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
    p: Annotated[float, InRange(above=0, most=1)]
    queries: tuple[Annotated[float, InRange(least=1)], ...]
    target: tuple[Share, ...]
    base: tuple[Share, ...]
    n: Count


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """All that attacks pull out of the model.

    Args:
        rows: one for each attack and group.
        curves: how many samples it takes, one for each group of secrets.
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
            only_planted: look only at rows that a coin decided (``randomized``), for data whose two sides differ
                without any model.
        """
        rows = [row for row in self.rows if row.family == family and row.metric == "share" and not row.control]
        rows = [row for row in rows if row.randomized or not only_planted]
        candidates = [
            (row.leaks, not row.partial, row.compared.lo, row.target.value, row)
            for row in rows
            if row.compared is not None
        ]
        return max(candidates, key=lambda entry: entry[:4])[4] if candidates else None
