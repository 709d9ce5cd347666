# SPDX-License-Identifier: Apache-2.0
"""The page of what synthetic texts are worth: one picture, one table, and what could not be said. No text is on it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from rich import box
from rich.console import Console
from rich.table import Table as Lines
from rich.text import Text

from reticent.core.atomic import write_text
from reticent.core.finding import Estimate
from reticent.core.outputs import marked, refuse_foreign
from reticent.core.progress import console as person
from reticent.core.section import Cell, Column, Table
from reticent.core.text_utility import HALF, REAL, SYNTHETIC, UNTRAINED, TextUtility, UtilityResults
from reticent.report import number_format as numbers
from reticent.report.page import environment, filled
from reticent.report.utility_plot import utility_picture

GENERATOR = "reticent utility"
UTILITY_PAGE = marked("page of usefulness", f'<meta name="generator" content="{GENERATOR}">')
LEARNED = {UNTRAINED: "no training", REAL: "real text", SYNTHETIC: "synthetic text", HALF: "half real, half synthetic"}
CAPTION = (
    "Loss in nats a token; kept: share of what real text teaches. Alike: area under the divergence frontier with real "
    "held-out text, where the row of real text says what a second sample of real text reaches. Lengths and labels: "
    "share that both samples have in common; topics: share of held-out texts in groups that the sample is in, too."
)


def write_utility_page(path: str | Path, results: UtilityResults) -> None:
    """Write the page, atomically, for its owner only: no promise covers it.

    Raises:
        BadInput: there is a folder, or a file that is no such page of this package.
    """
    refuse_foreign(path, UTILITY_PAGE)
    write_text(path, render_utility(results))


def render_utility(results: UtilityResults) -> str:
    """The whole page. Equal results give equal bytes."""
    content: dict[str, Any] = {
        "results": results,
        "generator": GENERATOR,
        "confounded": False,
        "picture": utility_picture("utility", results.rows),
        "rows": utility_table(results),
        "contents": [
            ("verdict", "In short"),
            ("picture", "Usefulness, promise, audit"),
            ("rows", "Each source"),
            *([("refused", "Not said")] if results.refused else []),
            ("provenance", "Provenance"),
        ],
    }
    return filled(_templates(), "utility.html", content, more="comparison.css")


@cache
def _templates() -> Environment:
    filters = {"plain_number": numbers.plain, "metric_name": numbers.metric_name}
    names = {"show": numbers.show, "numeric": ("estimate", "count", "number", "share")}
    return environment(filters, names)


_ESTIMATES = (
    ("loss", "Loss", ""),
    ("over_real", "Over real text", ""),
    ("kept", "Kept", ""),
    ("accuracy", "Accuracy", ""),
    ("likeness", "Alike", ""),
    ("labels", "Labels", ""),
    ("lengths", "Lengths", ""),
    ("topics", "Topics", ""),
)


def utility_table(results: UtilityResults) -> Table:
    """A row for each source; columns that no row has a number for are left out."""
    measures = [(name, label) for name, label, _ in _ESTIMATES if any(getattr(row, name) for row in results.rows)]
    columns = (
        Column(name="name", label="Learned from"),
        Column(name="texts", label="Texts", kind="count"),
        Column(name="promise", label="Promise"),
        *(Column(name=name, label=label, kind="estimate") for name, label in measures),
        Column(name="audit_auc", label="Audit: AUC", kind="estimate", metric="auc"),
        Column(name="audit_epsilon", label="Audit: ε is at least", kind="estimate", metric="epsilon_lower"),
    )
    rows = tuple(_cells(row, [name for name, _ in measures]) for row in results.rows)
    return Table(name="text-utility", title="Each source of texts", columns=columns, rows=rows, caption=CAPTION)


def _cells(row: TextUtility, measures: list[str]) -> tuple[Cell, ...]:
    audit = row.audit
    return (
        source_name(row),
        row.texts,
        None if row.promise is None else row.promise.sentence,
        *(getattr(row, name) for name in measures),
        audit.auc if audit else None,
        audit.epsilon if audit else None,
    )


def source_name(row: TextUtility) -> str:
    """The source that a row's model learned from, in words."""
    words = LEARNED[row.source]
    return f"{words}: {row.name}" if row.source in (SYNTHETIC, HALF) else words


def print_utility(results: UtilityResults, *, console: Console = person) -> None:
    """Print the headline, its sentences and a line for each source. Nothing is read as markup."""
    console.print()
    console.print(Text(results.headline, style="bold"))
    for sentence in (*results.sentences, *(f"Not said: {words}" for words in results.refused)):
        console.print(Text(f"  • {sentence}"))
    table = Lines(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("learned from")
    for name in ("texts", "promise", "loss", "kept", "alike"):
        table.add_column(name, justify="right")
    for row in results.rows:
        promise = "–" if row.promise is None else row.promise.sentence
        cells = (source_name(row), str(row.texts), promise, *map(_shown, (row.loss, row.kept, row.likeness)))
        table.add_row(*map(Text, cells))
    console.print(table)


def _shown(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.value:.3f} [{estimate.lo:.3f}, {estimate.hi:.3f}]"
