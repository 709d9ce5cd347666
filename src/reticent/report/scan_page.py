# SPDX-License-Identifier: Apache-2.0
"""The page of a scan: verdict, what was looked at and what not, scores beside clean models, evidence, files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from reticent.core.atomic import write_text
from reticent.core.outputs import marked, refuse_foreign
from reticent.core.paper import paper_url
from reticent.core.scan import ScanOutcome, ScanResults
from reticent.core.scan_words import FOUND, NOT_LOOKED, NOTHING, SUSPICIOUS
from reticent.core.section import Cell, Column, Mark, Table, Words
from reticent.report import number_format as numbers
from reticent.report.page import environment, filled
from reticent.report.scan_plots import strip, swatch

GENERATOR = "reticent scan"
SCAN_PAGE = marked("page of a scan", f'<meta name="generator" content="{GENERATOR}">')
TONES = {
    FOUND: ("status-leaks", "leaks"),
    SUSPICIOUS: ("status-underpowered", "leaks"),
    NOTHING: ("", "looked"),
    NOT_LOOKED: ("status-confounded", "confounded"),
}
"""Word → class of the page, and icon."""
KIND_WORDS = {"files": "Files", "weights": "Weights", "behaviour": "Behaviour", "data": "Data"}
MOST_FILES = 400
"""Files that the page lists; ``scan.json`` has all."""
KIBI = 1024


def write_scan_page(path: str | Path, results: ScanResults) -> None:
    """Write the page, atomically.

    Raises:
        BadInput: there is a folder, or a file that is no such page of this package.
    """
    refuse_foreign(path, SCAN_PAGE)
    write_text(path, render_scan(results), private=False)


def render_scan(results: ScanResults) -> str:
    """The whole page. Equal results give equal bytes."""
    tone, icon = TONES[results.verdict.word]
    strips = [
        (outcome, strip(f"strip-{outcome.name.replace('_', '-')}", outcome, results.level))
        for outcome in results.outcomes
    ]
    content: dict[str, Any] = {
        "results": results,
        "tone": tone,
        "icon_name": icon,
        "generator": GENERATOR,
        "looked": looked_table(results),
        "strips": [(outcome, drawing) for outcome, drawing in strips if drawing is not None],
        "key": [(swatch(kind), words) for kind, words in _KEY],
        "evidence": evidence_table(results),
        "confounded": False,
        "sections": [outcome.section for outcome in results.outcomes if outcome.section is not None],
        "files": files_table(results),
        "blind": [(outcome.title, outcome.blind_to) for outcome in results.outcomes],
    }
    content["contents"] = _contents(content)
    return filled(_templates(), "scan.html", content, more="scan.css")


_KEY = (("suspect", "this model"), ("clean", "a clean model"), ("level", "score that the level needs"))


@cache
def _templates() -> Environment:
    filters = {"plain_number": numbers.plain, "metric_name": numbers.metric_name}
    names = {"show": numbers.show, "paper_link": paper_url, "numeric": ("estimate", "count", "number", "share")}
    return environment(filters, names)


def _contents(content: dict[str, Any]) -> list[tuple[str, str]]:
    listed = [("verdict", "Verdict"), ("looked", "What was looked at")]
    listed += [("clean", "Beside clean models")] if content["strips"] else []
    listed += [("evidence", "Evidence")]
    listed += [(f"section-{section.name}", section.title) for section in content["sections"]]
    return [*listed, ("blind", "What it cannot see"), ("files", "Bill of materials"), ("provenance", "Provenance")]


def looked_table(results: ScanResults) -> Table:
    """A row for each scanner: its word, its p-value, what came of it."""
    columns = (
        Column(name="kind", label="Kind", kind="group"),
        Column(name="scanner", label="Scanner"),
        Column(name="word", label="Answer", kind="mark"),
        Column(name="p", label="p", kind="number", about="of the scanner by itself"),
        Column(name="p_adjusted", label="p, all tests", kind="number", about="corrected for all tests, by Holm"),
        Column(name="seconds", label="Seconds", kind="number"),
    )
    rows: list[tuple[Cell, ...]] = []
    for outcome in results.outcomes:
        name = Words(text=outcome.title, below=outcome.why_not or _counted(outcome))
        mark = Mark(text=outcome.word, raised=outcome.word in (FOUND, SUSPICIOUS))
        seconds = None if outcome.word == NOT_LOOKED else round(outcome.seconds, 2)
        rows.append((KIND_WORDS[outcome.kind], name, mark, outcome.p, outcome.p_adjusted, seconds))
    return Table(name="scan-looked", title="What was looked at", columns=columns, rows=tuple(rows))


def _counted(outcome: ScanOutcome) -> str:
    notes = len(outcome.evidence)
    return f"{notes} {'place' if notes == 1 else 'places'}" if notes else ""


def evidence_table(results: ScanResults) -> Table:
    """A row for each place, by scanner, the worst first."""
    columns = (
        Column(name="scanner", label="Scanner", kind="group"),
        Column(name="where", label="Where"),
        Column(name="note", label="What was seen"),
        Column(name="score", label="Score", kind="number"),
        Column(name="certain", label="Counts", kind="mark"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            outcome.title,
            row.where,
            Words(text=row.note, below=row.remedy),
            row.score,
            Mark(text=_weight(outcome, row.score, certain=row.certain), raised=row.certain),
        )
        for outcome in results.outcomes
        for row in outcome.evidence
    ]
    return Table(name="scan-evidence", title="Evidence", columns=columns, rows=tuple(rows))


def _weight(outcome: ScanOutcome, score: float, *, certain: bool) -> str:
    if certain:
        return "certain"
    if outcome.null != "rule":
        return "by its p"
    return "suspicious" if score >= 1 else "a note"


def files_table(results: ScanResults) -> Table:
    """The bill of materials."""
    columns = (
        Column(name="path", label="File"),
        Column(name="content", label="Content"),
        Column(name="bytes", label="Size"),
        Column(name="sha256", label="SHA-256"),
    )
    shown = results.files[:MOST_FILES]
    rows = tuple((file.path, file.content, size_words(file.bytes), file.sha256 or "not hashed") for file in shown)
    more = len(results.files) - len(shown)
    return Table(
        name="scan-files",
        title="Bill of materials",
        columns=columns,
        rows=rows,
        caption=f"{more} more files are in scan.json." if more else "",
    )


def size_words(size: int) -> str:
    """A size for people.

    >>> size_words(512), size_words(538090408)
    ('512 B', '513 MiB')
    """
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < KIBI:
            break
        value, unit = value / KIBI, larger
    return f"{value:.3g} {unit}"
