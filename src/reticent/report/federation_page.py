# SPDX-License-Identifier: Apache-2.0
"""The page of a federated fine-tuning: what is promised, how it went by round, who was dropped, who sees what."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from reticent.core.atomic import write_text
from reticent.core.federation import FederationResults
from reticent.core.outputs import marked, refuse_foreign
from reticent.core.paper import paper_url
from reticent.core.section import Cell, Column, Table
from reticent.report import number_format as numbers
from reticent.report.federation_plots import by_round
from reticent.report.page import environment, filled
from reticent.report.promise_checks import checks_table

GENERATOR = "reticent federate"
FEDERATION_PAGE = marked("page of a federation", f'<meta name="generator" content="{GENERATOR}">')


def write_federation_page(path: str | Path, results: FederationResults) -> None:
    """Write the page, atomically.

    Raises:
        BadInput: there is a folder, or a file that is no such page of this package.
    """
    refuse_foreign(path, FEDERATION_PAGE)
    write_text(path, render_federation(results), private=False)


def render_federation(results: FederationResults) -> str:
    """The whole page. Equal results give equal bytes."""
    norms = ["median_norm", "largest_norm", "clip"]
    told = len({row.clip for row in results.rounds}) > 1 or any(row.median_norm is not None for row in results.rounds)
    plots = {
        "ε by round": by_round(
            "epsilon", results.rounds, ["epsilon"], title="ε by round", before=0.0, label=f"ε spent, {meaning(results)}"
        ),
        "Held-out loss by round": by_round(
            "loss", results.rounds, ["held_out_loss"], title="Held-out loss by round", before=results.base_loss
        ),
        "Norms of updates by round": by_round("norms", results.rounds, norms, title="Norms of updates by round")
        if told
        else None,
    }
    content: dict[str, Any] = {
        "results": results,
        "generator": GENERATOR,
        "confounded": False,
        "plots": [(name, drawing) for name, drawing in plots.items() if drawing is not None],
        "rounds": rounds_table(results),
        "dropped": dropped_table(results),
        "who": who_table(results),
        "checks": checks_table(results.checks, name="federation-checks", unknown="too little to tell"),
    }
    content["contents"] = [
        ("verdict", "In short"),
        *([("plots", "By round")] if content["plots"] else []),
        ("rounds", "Rounds"),
        ("dropped", "Dropped messages"),
        ("who", "Who sees what"),
        *([("checks", "Self-check")] if results.checks else []),
        ("provenance", "Provenance"),
    ]
    return filled(_templates(), "federation.html", content, more="comparison.css")


def meaning(results: FederationResults) -> str:
    """Unit, δ and relation of ε; the unit alone in files that have no more."""
    return "per client" if results.stated is None else results.stated.meaning


@cache
def _templates() -> Environment:
    filters = {"plain_number": numbers.plain, "metric_name": numbers.metric_name}
    names = {"show": numbers.show, "paper_link": paper_url, "numeric": ("estimate", "count", "number", "share")}
    return environment(filters, names)


def rounds_table(results: FederationResults) -> Table:
    """A row for each round, without columns that no round says anything of."""
    columns = (
        Column(name="round", label="Round"),
        Column(name="epsilon", label="ε", kind="number", about=f"spent up to here, {meaning(results)}"),
        Column(name="loss", label="Loss", kind="number", about="nats a token on clients that take no part"),
        Column(name="clip", label="Clip norm", kind="number"),
        Column(name="median_norm", label="Median norm", kind="number", about="of updates, before clipping"),
        Column(name="answered", label="Answered", kind="count"),
        Column(name="drawn", label="Drawn", about="names that only the run folder can trace back"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            str(row.number),
            row.epsilon,
            row.held_out_loss,
            row.clip,
            row.median_norm,
            row.answered,
            ", ".join(row.drawn) if row.drawn else None,
        )
        for row in results.rounds
    ]
    told = [place for place, cells in enumerate(zip(*rows, strict=True)) if any(cell is not None for cell in cells)]
    return Table(
        name="federation-rounds",
        title="Rounds",
        columns=tuple(columns[place] for place in told),
        rows=tuple(tuple(row[place] for place in told) for row in rows),
    )


def dropped_table(results: FederationResults) -> Table:
    """A row for each message that did not count."""
    columns = (
        Column(name="round", label="Round"),
        Column(name="client", label="Client"),
        Column(name="why", label="Reason"),
    )
    rows = tuple((str(row.number), lost.client, lost.why) for row in results.rounds for lost in row.dropped)
    return Table(name="federation-dropped", title="Dropped messages", columns=columns, rows=rows)


def who_table(results: FederationResults) -> Table:
    """A row for each of those who take part."""
    rested = any(row.rests_on for row in results.who_sees)
    columns = (
        Column(name="who", label="Who"),
        Column(name="sees", label="Sees"),
        Column(name="promise", label="Promise that holds against them"),
        Column(name="rests_on", label="Rests on"),
    )
    rows = tuple((row.who, row.sees, row.promise, row.rests_on) for row in results.who_sees)
    shown = len(columns) if rested else len(columns) - 1
    return Table(
        name="federation-who",
        title="Who sees what",
        columns=columns[:shown],
        rows=tuple(row[:shown] for row in rows),
    )
