# SPDX-License-Identifier: Apache-2.0
"""The page of synthetic texts: what is promised, what left the private data, what was checked. No text is on it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from reticent.core.atomic import write_text
from reticent.core.outputs import marked, refuse_foreign
from reticent.core.paper import paper_url
from reticent.core.section import Column, Table
from reticent.core.synthesis import SynthesisResults
from reticent.report import number_format as numbers
from reticent.report.page import environment, filled
from reticent.report.promise_checks import checks_table

GENERATOR = "reticent synthesize"
SYNTHESIS_PAGE = marked("page of synthetic texts", f'<meta name="generator" content="{GENERATOR}">')


def write_synthesis_page(path: str | Path, results: SynthesisResults) -> None:
    """Write the page, atomically.

    Raises:
        BadInput: there is a folder, or a file that is no such page of this package.
    """
    refuse_foreign(path, SYNTHESIS_PAGE)
    write_text(path, render_synthesis(results), private=False)


def render_synthesis(results: SynthesisResults) -> str:
    """The whole page. Equal results give equal bytes."""
    content: dict[str, Any] = {
        "results": results,
        "generator": GENERATOR,
        "confounded": False,
        "releases": releases_table(results),
        "checks": checks_table(results.checks, name="synthesis-checks", unknown="not looked at in this call"),
    }
    content["contents"] = [
        ("verdict", "In short"),
        ("releases", "What left the private data"),
        *([("checks", "Self-check")] if results.checks else []),
        ("provenance", "Provenance"),
    ]
    return filled(_templates(), "synthesis.html", content, more="comparison.css")


@cache
def _templates() -> Environment:
    filters = {"plain_number": numbers.plain, "metric_name": numbers.metric_name}
    names = {"show": numbers.show, "paper_link": paper_url, "numeric": ("estimate", "count", "number", "share")}
    return environment(filters, names)


def releases_table(results: SynthesisResults) -> Table:
    """A row for each thing that left the private data, or was taken as known."""
    columns = (Column(name="what", label="What"), Column(name="covered", label="How it is covered"))
    rows = tuple((row.what, row.covered) for row in results.releases)
    return Table(name="synthesis-releases", title="What left the private data", columns=columns, rows=rows)
