# SPDX-License-Identifier: Apache-2.0
"""Findings as a table."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
from reticent.core.frame import COLUMNS, html
from reticent.core.results import Confound, Results, Verdict

AUC = Finding(
    attack="loss",
    level="record",
    metric="auc",
    estimate=Estimate(value=0.75, lo=0.7, hi=0.8, n=64, method="DeLong"),
    severity=Severity.HIGH,
    threat=ThreatModel(access="logprob"),
    statement="loss tells members",
    p_value=0.002,
)
BOUND = replace(
    AUC,
    attack="one_run",
    metric="epsilon_lower",
    estimate=Estimate(value=1.25, lo=1.25, hi=math.inf, n=40, method="bound"),
    severity=Severity.NONE,
    p_value=None,
)


def results(*findings: Finding) -> Results:
    return Results(
        title="", created="", verdict=Verdict(status="leaks", headline=""), findings=findings, attacks=(), curves=(),
        distributions=(), exposure=(), exposed=(), not_tested=(), counts={}, provenance={}, power=(),
        confound=Confound(blind_auc=None, near_duplicates=0, near_duplicate_share=None, separable=False),
    )  # fmt: skip


def test_a_row_a_finding_in_their_order() -> None:
    found = results(AUC, BOUND).to_frame()
    assert tuple(found.columns) == ("table", *COLUMNS, "row", "about")
    assert found.to_dict("records")[0] == {
        "table": "findings", "level": "record", "attack": "loss", "metric": "auc", "value": 0.75, "lo": 0.7, "hi": 0.8,
        "n": 64, "p_value": 0.002, "severity": "high", "row": 0, "about": "loss tells members",
    }  # fmt: skip
    assert math.isinf(found.hi[1])
    assert math.isnan(found.p_value[1])
    assert [str(found[name].dtype) for name in ("value", "n", "p_value")] == ["float64", "Int64", "float64"]
    empty = results().to_frame()
    assert tuple(empty.columns) == tuple(found.columns)
    assert len(empty) == 0


class Cells(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not attrs
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def test_a_notebook_shows_the_same_rows_and_runs_nothing() -> None:
    hostile = replace(AUC, attack="<script>alert(1)</script>&amp;")
    page = Cells(html("<img src=x onerror=alert(2)>", [hostile, BOUND]))
    assert set(page.tags) == {"p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.cells[:9] == [
        "record",
        "<script>alert(1)</script>&amp;",
        "auc",
        *("0.75", "0.7", "0.8", "64", "0.002", "high"),
    ]
    assert page.cells[9:] == ["record", "one_run", "epsilon_lower", "1.25", "1.25", "∞", "40", "", "none"]


def test_pandas_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, reticent.core.results; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
