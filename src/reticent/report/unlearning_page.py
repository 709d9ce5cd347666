# SPDX-License-Identifier: Apache-2.0
"""``report.html`` of an unlearned run: one self-contained page that asks nothing of any network and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from reticent.core.atomic import write_text
from reticent.core.outputs import marked, refuse_foreign
from reticent.core.paper import paper_url
from reticent.core.section import Cell, Column, Table, Words
from reticent.core.unlearning import AFTER, BASE, BEFORE, RETRAINED, Measurement, PlanePoint, UnlearningResults
from reticent.core.unlearning_words import NOT_CLAIMED
from reticent.report import number_format as numbers
from reticent.report import unlearning_plots as plots
from reticent.report.page import environment, filled
from reticent.report.svg import called
from reticent.report.unlearning_file import unlearning_digest

GENERATOR = "reticent unlearning"
UNLEARNING_REPORT = marked("report of an unlearning", f'<meta name="generator" content="{GENERATOR}">')

TONES = {
    "still_known": ("status-leaks", "leaks"),
    "marked": ("status-confounded", "confounded"),
    "too_few": ("status-underpowered", "underpowered"),
    "never_known": ("status-underpowered", "underpowered"),
    "not_detected": ("", "looked"),
}
"""Status → class of the page, and icon."""

SHORT = 3
"""Numbers of a check that the table at the top shows."""
COLUMN_OF = {AFTER: "unlearned", BEFORE: "untouched", RETRAINED: "retrained", BASE: "base"}


def write_unlearning_page(path: str | Path, results: UnlearningResults) -> None:
    """Write the page, atomically.

    Raises:
        BadInput: there is a folder, or a file that is no such report of this package.
    """
    refuse_foreign(path, UNLEARNING_REPORT)
    write_text(path, render_unlearning(results), private=results.holds_text)


def render_unlearning(results: UnlearningResults) -> str:
    """The whole page. Equal results give equal bytes."""
    return filled(page_templates(), "unlearning.html", _content(results), more="unlearning.css")


@cache
def page_templates() -> Environment:
    """Templates of the page and of the certificate."""
    filters = {"plain_number": numbers.plain, "metric_name": numbers.metric_name}
    names = {"show": numbers.show, "paper_link": paper_url, "numeric": ("estimate", "count", "number", "share")}
    return environment(filters, names)


def _content(results: UnlearningResults) -> dict[str, Any]:
    tone, icon = TONES[results.verdict.status]
    sections = [(f"check-{check.section.name}", check) for check in results.checks]
    points = [point for check in results.checks for point in check.points]
    bars = [bar for check in results.checks for bar in check.bars]
    drawings = {
        "looks": plots.by_step("looks-plot", results.looks, margin=results.margin, stopped_at=results.stopped_at)
        if results.looks
        else None,
        "plane": plots.plane("plane-plot", [*points, *results.tried], margin=results.margin) if points else None,
        "robustness": plots.robustness("robustness-plot", bars, margin=results.margin) if bars else None,
    }
    attacks = list(dict.fromkeys(name for look in results.looks for name in look.aucs))
    titled = {name: _titled(drawing, results.title) for name, drawing in drawings.items()}
    return {
        "results": results,
        "tone": tone,
        "icon_name": icon,
        "generator": GENERATOR,
        "short": short_table(results),
        "drawings": titled,
        "attack_key": [(plots.line_swatch(number), name) for number, name in enumerate(attacks)],
        "roles": [(plots.key_mark(role), plots.ROLE_WORDS[role]) for role in _roles(points)],
        "checks": sections,
        "confounded": False,
        "not_claimed": NOT_CLAIMED,
        "digest": unlearning_digest(results),
        "contents": _contents(results, titled),
    }


def _titled(drawing: Markup | None, title: str) -> Markup | None:
    return called(drawing, title) if drawing is not None and title else drawing


def _roles(points: Sequence[PlanePoint]) -> list[str]:
    present = {point.role for point in points}
    return [role for role in plots.ROLE_WORDS if role in present]


def _contents(results: UnlearningResults, drawings: dict[str, Markup | None]) -> list[tuple[str, str]]:
    listed = [("verdict", "Verdict"), ("certificate", "Certificate"), ("short", "Before and after")]
    listed += [("looks", "While unlearning")] if drawings["looks"] else []
    listed += [("plane", "Forget and retain")] if drawings["plane"] else []
    listed += [("robust", "What comes back")] if drawings["robustness"] else []
    listed += [(f"check-{check.section.name}", check.section.title) for check in results.checks if check.ran]
    return [*listed, ("not-claimed", "What is not claimed"), ("provenance", "Provenance")]


def short_table(results: UnlearningResults) -> Table:
    """A few numbers of each check, of all models: unlearned, untouched, retrained, base."""
    columns = (
        Column(name="check", label="Check", kind="group"),
        Column(name="number", label="Number"),
        *(Column(name=name, label=name.capitalize(), kind="estimate", unit=False) for name in COLUMN_OF.values()),
    )
    rows: list[tuple[Cell, ...]] = []
    for check in results.checks:
        by_number: dict[tuple[str, str], dict[str, list[Measurement]]] = {}
        for number in check.measured:
            by_number.setdefault((number.what, number.metric), {}).setdefault(number.role, []).append(number)
        both = [entry for entry in by_number.items() if AFTER in entry[1] and BEFORE in entry[1]]
        for (what, metric), roles in both[:SHORT]:
            cells = [_of_role(roles.get(role, ())) for role in COLUMN_OF]
            rows.append((check.section.title, Words(text=what, note=numbers.metric_name(metric)), *cells))
    return Table(
        name="unlearning-short",
        title="Before, after and retrained",
        columns=columns,
        rows=tuple(rows),
        caption="Retrained: mean of the models, and the hull of their intervals.",
    )


def _of_role(measured: Sequence[Measurement]) -> Cell:
    if not measured:
        return None
    estimates = [number.estimate for number in measured]
    if len(estimates) == 1:
        return estimates[0]
    value, low, high = plots.together(estimates)
    return type(estimates[0])(
        value=value,
        lo=low,
        hi=high,
        n=estimates[0].n,
        method=f"mean of {len(estimates)} models, hull of their intervals",
        confidence=estimates[0].confidence,
    )
