# SPDX-License-Identifier: Apache-2.0
"""Findings as a table for notebooks: a pandas DataFrame, or HTML that a notebook shows by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from reticent.core.finding import Finding

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("level", "attack", "metric", "value", "lo", "hi", "n", "p_value", "severity")


def rows(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """A row a finding, in their order, with ``COLUMNS``; ends of intervals may be infinite, ``p_value`` may be None."""
    return [
        {
            "level": one.level,
            "attack": one.attack,
            "metric": one.metric,
            "value": one.estimate.value,
            "lo": one.estimate.lo,
            "hi": one.estimate.hi,
            "n": one.estimate.n,
            "p_value": one.p_value,
            "severity": one.severity.value,
        }
        for one in findings
    ]


def frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """``rows`` as a DataFrame; a missing ``p_value`` is NaN."""
    import pandas as pd  # loads slowly, and only notebooks need it

    found = pd.DataFrame(rows(findings), columns=list(COLUMNS))
    return found.astype({"value": float, "lo": float, "hi": float, "n": int, "p_value": float})


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
