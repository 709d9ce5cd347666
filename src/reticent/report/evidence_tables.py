# SPDX-License-Identifier: Apache-2.0
"""Extraction and exposure as tables whose columns the dataclasses of the rows declare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reticent.core.extraction_rows import ExtractionRow
from reticent.core.results import CanaryExposure, Results
from reticent.core.section import Cell, Column, Mark, Table, Words, columns_of

CAPTION = (
    "Of each group all that leaks, or else the attack that gets most; in percent of the group, or where it says so of "
    "a unit on average."
)


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """Rows about the same secrets, records or texts, the worst first."""

    family: str
    name: str
    control: bool
    rows: Sequence[ExtractionRow]

    @property
    def sizes(self) -> set[int]:
        """Numbers of units that its rows are about; several where attacks could not be made on all."""
        return {row.n for row in self.rows}

    @property
    def heading(self) -> Words:
        """Its name, with what else there is to know of all its rows."""
        size = f"n = {self.rows[0].n:,} " if len(self.sizes) == 1 else ""
        kind = "" if self.family == "extraction" else f"{self.family} "
        return Words(text=self.name[:1].upper() + self.name[1:], note=f"{kind}{size}{self.rows[0].units}")


def extraction_groups(results: Results) -> list[RowGroup]:
    """Groups that were trained on first, in each what leaks and then what is largest first."""
    groups: dict[tuple[str, str, bool], list[ExtractionRow]] = {}
    for row in results.extraction.rows if results.extraction else ():
        groups.setdefault((row.family, row.group, row.control), []).append(row)
    ranked = [
        RowGroup(family=family, name=name, control=control, rows=sorted(rows, key=_rank))
        for (family, name, control), rows in groups.items()
    ]
    return sorted(ranked, key=lambda group: (group.control, group.family != "extraction"))


def extraction_tables(results: Results) -> list[Table]:
    """The worst of each group that was trained on, everything of these groups, and the controls; those that have rows.

    The first is on the page at once, the others are folded.
    """
    confounded = results.verdict.status == "confounded"
    groups = extraction_groups(results)
    trained = [group for group in groups if not group.control]
    controls = [group for group in groups if group.control]
    worst = []
    for group in trained:
        leaking = [row for row in group.rows if row.shown_to_leak(confounded=confounded)]
        worst.append(replace(group, rows=leaking or group.rows[:1]))
    parts = (
        ("extraction-worst", "What can be pulled out, the worst of each group", worst, False),
        ("extraction-all", "Every attack on every group", trained, True),
        ("extraction-controls", "Controls: what was never trained on", controls, True),
    )
    caption = CAPTION
    if trained and trained[0].rows[0].target.joint is not None:
        caption += " Intervals hold together with the rest of this page."
    return [
        Table(
            name=name,
            title=title,
            columns=_COLUMNS,
            rows=tuple(_cells(row, group, confounded=confounded) for group in listed for row in group.rows),
            caption="" if folded else caption,
            folded=folded,
        )
        for name, title, listed, folded in parts
        if listed
    ]


def exposure_table(tiers: Sequence[CanaryExposure]) -> Table:
    """Exposure by tier, the one planted least first; a column that no tier has a number for is left out."""
    ordered = sorted(tiers, key=lambda tier: tier.repetitions)
    columns = [
        column
        for column in columns_of(CanaryExposure)
        if any(getattr(tier, column.name) is not None for tier in ordered)
    ]
    rows = tuple(
        (
            Words(text=tier.tier, note="user" if tier.kind == "user" else ""),
            len(tier.each),
            *(getattr(tier, column.name) for column in columns),
        )
        for tier in ordered
    )
    first = (Column(name="tier", label="Tier"), Column(name="secrets", label="n", kind="count"))
    return Table(name="exposure-by-tier", title="Exposure by tier", columns=(*first, *columns), rows=rows)


_COLUMNS = (
    Column(name="group", label="Group", kind="group"),
    Column(name="attack", label="Attack"),
    *columns_of(ExtractionRow),
    Column(name="leak", label="Leak", kind="mark"),
)


def _rank(row: ExtractionRow) -> tuple[bool, bool, float, str]:
    return (row.metric != "share", not row.leaks, -row.target.value, row.attack)


def _cells(row: ExtractionRow, group: RowGroup, *, confounded: bool) -> tuple[Cell, ...]:
    attack = Words(
        text=row.attack,
        note=f"n = {row.n:,}" if len(group.sizes) > 1 else "",
        below="mean of a unit" if row.metric == "mean" else "",
    )
    declared = (getattr(row, column.name) for column in columns_of(ExtractionRow))
    return (group.heading, attack, *declared, _leak(row, confounded=confounded))


def _leak(row: ExtractionRow, *, confounded: bool) -> Mark | None:
    if row.shown_to_leak(confounded=confounded):
        return Mark(text="in part" if row.partial else "pulled out")
    if row.leaks or row.compared is None or row.control or row.metric != "share":
        return None
    return Mark(text="not shown", raised=False)
