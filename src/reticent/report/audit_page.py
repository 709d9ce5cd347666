# SPDX-License-Identifier: Apache-2.0
"""``report.html``: a Results as one self-contained page that asks nothing of any network.

Everything that comes from an audit is escaped by jinja2. The content security policy allows this page's own style
sheet, by its hash, and nothing else: no script runs, whatever a text in the results may hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from reticent.core.atomic import write_text
from reticent.core.finding import Finding
from reticent.core.outputs import REPORT, refuse_foreign
from reticent.core.paper import paper_url
from reticent.core.results import AttackRun, ExposedUnit, Results
from reticent.core.section import Section
from reticent.report import number_format as numbers
from reticent.report import plots, scope, summary
from reticent.report.cards import auc_gauge, cards
from reticent.report.evidence_tables import exposure_table, extraction_tables
from reticent.report.figures import Figure, figures
from reticent.report.heading import facts, model_name
from reticent.report.page import environment, filled, made_by
from reticent.report.results_file import digest, from_json, to_json
from reticent.report.sentences import numbered, would_have_been_seen

ROC_SHOWN = 4
"""Curves in colour when the page opens; the others are grey until chosen in the legend."""

RANKED_SHOWN = 15
"""Units of a level that the page lists; ``results.json`` holds all."""

FIGURES = ("promise", "allowed", "roc", "scores", "exposure", "pulled", "forest")
"""Parts of the page that have figures."""

SECTIONS = (
    ("verdict", "Verdict"),
    ("first", "What to do first"),
    ("numbers", "Key numbers"),
    ("promise", "Promise"),
    ("exposed", "Who is exposed"),
    ("roc", "ROC curves"),
    ("scores", "Score distributions"),
    ("canaries", "Planted secrets"),
    ("extraction", "What can be pulled out"),
    ("forest", "All attacks compared"),
    ("attacks", "Attacks and attackers"),
    ("check", "Validity and power"),
    ("not-tested", "What was not tested"),
    ("findings", "Findings"),
    ("provenance", "Provenance"),
)
"""``(anchor, name)`` of the page's sections in their order: the answer, what follows from it, the evidence. Some are
there only where there is such a thing, see ``_sections``."""

FURTHER = "forest"
"""Anchor before which further kinds of evidence stand."""


def write_report(path: str | Path, results: Results) -> None:
    """Write ``report.html``, atomically.

    Raises:
        BadInput: there is a folder, or a file that is no report of this package.
    """
    refuse_foreign(path, REPORT)
    write_text(path, render(results), private=False)


def render(results: Results) -> str:
    """The whole page. Equal results give equal bytes, also after they were written and read again."""
    results = from_json(to_json(results))
    return filled(_templates(), "report.html", _content(results), curves=_most_curves(results))


@cache
def _templates() -> Environment:
    filters = {
        "metric_name": numbers.metric_name,
        "p_value": numbers.p_value,
        "signed": numbers.signed,
        "plain_number": numbers.plain,
        "numbered": numbered,
        "number_up": numbers.up,
        "percent_up": numbers.percent_up,
        "would_have_been_seen": would_have_been_seen,
        "bar": plots.bar,
        "access": lambda access: summary.ACCESS_WORDS.get(access, access),
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    names = {"show": numbers.show, "alone": _alone, "paper_link": paper_url, "infinity": math.inf}
    return environment(filters, names | {"numeric": ("estimate", "count", "number", "share")})


def _content(results: Results) -> dict[str, Any]:
    """The content of the template: picked, ordered and drawn."""
    detected, clean = summary.by_severity(results.all_findings)
    further = [(_anchor(section.name), section) for section in results.sections]
    parts: dict[str, list[Figure]] = {name: [] for name in FIGURES}
    for figure in figures(results):
        parts[figure.part].append(figure)
    return {
        "results": results,
        "model": model_name(results),
        "facts_on_top": facts(results),
        "digest": digest(results),
        "version": made_by(),
        "confounded": results.verdict.status == "confounded",
        "status_words": summary.STATUS_WORDS[results.verdict.status],
        "to_do": summary.advice(results.all_findings),
        "cards": cards(results),
        "figures": parts,
        "exposed": _exposed(results),
        "fitted_exposure": any(tier.fitted is not None for tier in results.exposure),
        "attack_rows": _attack_rows(results),
        "switched_off": [run for run in results.attacks if not run.ran],
        "blind_gauge": auc_gauge("blind", results.confound.blind_auc, "Blind baseline"),
        "tried": scope.tried(results),
        "untried": scope.untried(results),
        "refused": scope.statistics(results),
        "worst": summary.worst(detected),
        "clean": clean,
        "extraction_tables": extraction_tables(results),
        "exposure_table": exposure_table(results.exposure),
        "further": further,
        "sections": _sections(results, further),
        "roc_shown": ROC_SHOWN,
        "ranked_shown": RANKED_SHOWN,
    }


def _sections(results: Results, further: Sequence[tuple[str, Section]]) -> list[tuple[str, str]]:
    """Those that the page has, further kinds of evidence where `FURTHER` says."""
    missing = {
        "first": not summary.advice(results.all_findings),
        "promise": results.promise is None,
        "extraction": results.extraction is None,
    }
    place = [anchor for anchor, _ in SECTIONS].index(FURTHER)
    added = [(anchor, section.title) for anchor, section in further]
    sections = [*SECTIONS[:place], *added, *SECTIONS[place:]]
    return [row for row in sections if row in added or not missing.get(row[0], False)]


def _anchor(name: str) -> str:
    """Of a further kind of evidence; no anchor of the page's own."""
    return f"{name}-evidence" if name in dict(SECTIONS) else name


def _exposed(results: Results) -> list[tuple[str, Sequence[ExposedUnit], str]]:
    """``(level, units by rank, what chance would give)`` for each level that has any."""
    groups: list[tuple[str, Sequence[ExposedUnit], str]] = []
    for level in ("record", "user"):
        units = sorted((unit for unit in results.exposed if unit.level == level), key=lambda unit: unit.rank)
        if units:
            n_member = max((curve.n_member for curve in results.curves if curve.level == level), default=0)
            groups.append((level, units, summary.expected_by_chance(level, n_member)))
    return groups


def _alone(finding: Finding) -> str:
    """The interval of a finding's number by itself."""
    estimate = finding.estimate
    assert estimate.alone is not None
    return numbers.show(replace(estimate, lo=estimate.alone[0], hi=estimate.alone[1]), finding.metric).interval


AttackRow = tuple[AttackRun, tuple[str, ...], Finding | None, Finding | None]


def _attack_rows(results: Results) -> list[tuple[str, list[AttackRow]]]:
    """``(level, [(run, needs, AUC, TPR)])`` of the attacks that ran, largest AUC first; the true positive rate at the
    lowest false positive rate that could be measured, from 1 % on."""
    levels: dict[str, list[AttackRow]] = {}
    for run in results.attacks:
        if not run.ran:
            continue
        by_metric = {f.metric: f for f in results.findings if (f.attack, f.level) == (run.name, run.level)}
        needs = next((finding.threat.needs for finding in by_metric.values()), ())
        row = (run, needs, by_metric.get("auc"), by_metric.get("tpr@0.01") or by_metric.get("tpr@0.1"))
        levels.setdefault(run.level, []).append(row)
    for rows in levels.values():
        rows.sort(key=lambda row: -(row[2].estimate.value if row[2] else -1))
    return sorted(levels.items(), key=lambda level: level[0] != "record")


def _most_curves(results: Results) -> int:
    return max((sum(curve.level == level for curve in results.curves) for level in ("record", "user")), default=0)
