# SPDX-License-Identifier: Apache-2.0
"""Results for notebooks: every number in a pandas DataFrame, and findings as HTML that a notebook shows by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from reticent.core.finding import Finding
from reticent.core.result_tables import FINDINGS, HoldsRows, numbers_of, tables

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("level", "attack", "metric", "value", "lo", "hi", "n", "p_value", "severity")


def rows(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """A row a finding, in their order, with ``COLUMNS``; ends of intervals may be infinite, ``p_value`` may be None."""
    return [
        {
            "level": finding.level,
            "attack": finding.attack,
            "metric": finding.metric,
            "value": finding.estimate.value,
            "lo": finding.estimate.lo,
            "hi": finding.estimate.hi,
            "n": finding.estimate.n,
            "p_value": finding.p_value,
            "severity": finding.severity.value,
        }
        for finding in findings
    ]


def tidy(results: HoldsRows) -> pd.DataFrame:
    """Every number of results, one a row: the findings, then those of every table (`reticent.core.result_tables`).

    Columns: ``table`` (``"findings"`` for a finding), ``level``, ``attack``, ``metric`` (of a table: the column),
    ``value``, ``lo``, ``hi``, ``n``, ``p_value``, ``severity``, ``row`` (of its table, from 0) and ``about`` (what the
    row is about, in words). What a number does not have is NaN or empty; an end without a bound is infinite.
    """
    import pandas as pd  # loads slowly, and only notebooks need it

    numbers: list[dict[str, Any]] = [
        {"table": FINDINGS, **row, "row": place, "about": finding.statement}
        for place, (row, finding) in enumerate(zip(rows(results.all_findings), results.all_findings, strict=True))
    ]
    for table in tables(results):
        if table.name != FINDINGS:
            numbers += [{"table": table.name, "severity": "", **number} for number in numbers_of(table)]
    frame = pd.DataFrame(numbers, columns=["table", *COLUMNS, "row", "about"])
    numeric = dict.fromkeys(("value", "lo", "hi", "p_value"), float)
    return frame.astype({**numeric, "n": "Int64", "row": int})


def html(headline: str, findings: Iterable[Finding]) -> str:
    """The headline and ``rows`` as HTML, without style or script; everything is escaped."""
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_shown(row[name]))}</td>" for name in COLUMNS) + "</tr>"
        for row in rows(findings)
    )
    return (
        f"<p><strong>{escape(headline)}</strong></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}"
