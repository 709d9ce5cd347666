# SPDX-License-Identifier: Apache-2.0
"""``report.html``: a Results as one self-contained page that asks nothing of any network.

Everything that comes from an audit is escaped by jinja2. The content security policy allows this page's own style
sheet, by its hash, and nothing else: no script runs, whatever a text in the results may hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from reticent.core.atomic import write_text
from reticent.core.finding import Estimate, Finding
from reticent.core.outputs import REPORT, refuse_foreign
from reticent.core.results import AttackRun, Exposed, ExtractionRow, PromiseAudit, PromiseBound, Results
from reticent.report import numbers, plots, promise_plots, summary
from reticent.report.numbers import Shown
from reticent.report.page import environment, filled

ROC_SHOWN = 4
"""Curves in colour when the page opens; the others are grey until chosen in the legend."""

RANKED_SHOWN = 15
"""Units of a level that the page lists; ``results.json`` holds all."""

SECTIONS = (
    ("verdict", "Verdict"),
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
    ("findings", "Findings and advice"),
    ("provenance", "Provenance"),
)
"""``(anchor, name)`` of the page's sections, for the list of contents; "Promise" and "What can be pulled out" only
where there is such a thing."""


@dataclass(frozen=True, kw_only=True)
class RocChart:
    """Curves of one level, best first, with what the legend shows of each."""

    level: str
    drawing: Markup
    note: str
    legend: tuple[tuple[int, str, str], ...]


def write_report(path: str | Path, results: Results) -> None:
    """Write ``report.html``, atomically.

    Raises:
        BadInput: there is a folder, or a file that is no report of this package.
    """
    refuse_foreign(path, REPORT)
    write_text(path, render(results), private=False)


def render(results: Results) -> str:
    """The whole page. Equal results give equal bytes."""
    return filled(_templates(), "report.html", _content(results), curves=_most_curves(results))


@cache
def _templates() -> Environment:
    filters = {
        "metric_name": numbers.metric_name,
        "p_value": numbers.p_value,
        "signed": numbers.signed,
        "number_up": numbers.up,
        "percent_up": numbers.percent_up,
        "bar": plots.bar,
        "access": lambda access: summary.ACCESS_WORDS.get(access, access),
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    return environment(
        filters, {"show": numbers.show, "alone": _alone, "paper_link": _paper_link, "infinity": math.inf}
    )


def _content(results: Results) -> dict[str, Any]:
    """What the template shows, picked, ordered and drawn."""
    detected, clean = summary.by_severity(results.findings)
    return {
        "results": results,
        "confounded": results.verdict.status == "confounded",
        "status_words": summary.STATUS_WORDS[results.verdict.status],
        "cards": _cards(results),
        "promises": _promises(results),
        "allowed": _allowed(results),
        "exposed": _exposed(results),
        "rocs": [chart for level in ("record", "user") if (chart := _roc(results, level))],
        "histograms": _histograms(results),
        "fitted_exposure": any(tier.fitted is not None for tier in results.exposure),
        "exposures": [
            plots.exposure(f"exposure-{kind}", tiers)
            for kind in ("record", "user")
            if (tiers := sorted((t for t in results.exposure if t.kind == kind), key=lambda t: t.repetitions))
        ],
        "forests": [
            (level, plots.forest(f"forest-{level}", rows))
            for level in ("record", "user")
            if (rows := summary.aucs(results, level))
        ],
        "attack_rows": _attack_rows(results),
        "switched_off": [run for run in results.attacks if not run.ran],
        "blind_gauge": _auc_gauge("blind", results.confound.blind_auc, "Blind baseline"),
        "detected": detected,
        "clean": clean,
        "advice": list(dict.fromkeys(finding.advice for finding in detected if finding.advice)),
        "pulled": _pulled(results),
        "pulled_curves": _pulled_curves(results),
        "sections": [row for row in SECTIONS if getattr(results, row[0].replace("-", "_"), row) is not None],
        "roc_shown": ROC_SHOWN,
        "ranked_shown": RANKED_SHOWN,
    }


def _promises(results: Results) -> list[tuple[str, Markup]]:
    """``(title, drawing)`` for each ε that was promised or is implied and that something was held against."""
    if results.promise is None:
        return []
    groups: dict[tuple[str, str], list[tuple[float, PromiseBound]]] = {}
    for row in results.promise.bounds:
        if row.promised is not None:
            groups.setdefault((row.unit, plots.epsilon(row.promised, up=True)), []).append((row.promised, row))
    return [
        (
            f"ε per {unit}{'' if unit == results.promise.unit else ', as the promise implies'}",
            plots.promise(f"promise-{i}", max(promised for promised, _ in rows), [row for _, row in rows]),
        )
        for i, ((unit, _), rows) in enumerate(groups.items())
    ]


def _allowed(results: Results) -> Markup | None:
    """The curve of what the promise allows, beside that of the attack that is held against it."""
    kept = results.promise
    if kept is None or not kept.roc:
        return None
    measured = [curve for curve in results.curves if (curve.level, curve.attack) == (kept.unit, kept.auc_attack)]
    return promise_plots.allowed("promise-allowed", kept.roc, measured[0] if measured else None)


def _pulled(results: Results) -> list[tuple[str, str, bool, list[ExtractionRow]]]:
    """``(family, group, control?, rows)``: groups that were trained on first, in each what leaks and then what is
    largest first."""
    groups: dict[tuple[str, str, bool], list[ExtractionRow]] = {}
    for row in results.extraction.rows if results.extraction else ():
        groups.setdefault((row.family, row.group, row.control), []).append(row)
    found = [
        (*about, sorted(rows, key=lambda row: (row.metric != "share", not row.leaks, -row.target.value, row.attack)))
        for about, rows in groups.items()
    ]
    return sorted(found, key=lambda one: (one[2], one[0] != "extraction"))


def _pulled_curves(results: Results) -> Markup | None:
    curves = results.extraction.curves if results.extraction else ()
    return plots.extraction("extraction-curve", curves) if curves else None


def _exposed(results: Results) -> list[tuple[str, Sequence[Exposed], str]]:
    """``(level, units by rank, what chance would give)`` for each level that has any."""
    groups: list[tuple[str, Sequence[Exposed], str]] = []
    for level in ("record", "user"):
        units = sorted((unit for unit in results.exposed if unit.level == level), key=lambda unit: unit.rank)
        if units:
            n_member = max((curve.n_member for curve in results.curves if curve.level == level), default=0)
            groups.append((level, units, summary.expected_by_chance(level, n_member)))
    return groups


def _roc(results: Results, level: str) -> RocChart | None:
    order = {name: rank for rank, (name, _) in enumerate(summary.aucs(results, level))}
    curves = [curve for curve in results.curves if curve.level == level]
    curves.sort(key=lambda curve: order.get(curve.attack, len(order)))
    if not curves:
        return None
    auc = dict(summary.aucs(results, level))
    floor = plots.fpr_floor(curves)
    note = f"Shaded: below {plots.percent(floor)} false positives fewer than {plots.FEW} held-out {level}s decide, "
    return RocChart(
        level=level,
        note=note + "too few to say.",
        drawing=plots.roc(f"roc-{level}", curves),
        legend=tuple((i, curve.attack, _auc_text(auc.get(curve.attack))) for i, curve in enumerate(curves)),
    )


def _alone(finding: Finding) -> str:
    """The interval of a finding's number by itself."""
    estimate = finding.estimate
    assert estimate.alone is not None
    return numbers.show(replace(estimate, lo=estimate.alone[0], hi=estimate.alone[1]), finding.metric).interval


def _auc_text(estimate: Estimate | None) -> str:
    return numbers.show(estimate, "auc").value if estimate else ""


def _histograms(results: Results) -> list[tuple[str, str, Markup]]:
    """``(attack, level, drawing)``, the attacks that leak most first."""
    order = {
        (level, name): (level != "record", -estimate.value)
        for level in ("record", "user")
        for name, estimate in summary.aucs(results, level)
    }
    ranked = sorted(results.distributions, key=lambda d: order.get((d.level, d.attack), (True, 0.0)))
    return [(d.attack, d.level, plots.histogram(f"scores-{i}", d)) for i, d in enumerate(ranked)]


def _attack_rows(results: Results) -> list[tuple[AttackRun, tuple[str, ...], Finding | None, Finding | None]]:
    """``(run, needs, AUC, TPR)`` of the attacks that ran, largest AUC first within a level; the true positive rate at
    the lowest false positive rate that could be measured, from 1 % on."""
    rows = []
    for run in results.attacks:
        if not run.ran:
            continue
        own = {f.metric: f for f in results.findings if (f.attack, f.level) == (run.name, run.level)}
        needs = next((finding.threat.needs for finding in own.values()), ())
        rows.append((run, needs, own.get("auc"), own.get("tpr@0.01") or own.get("tpr@0.1")))
    rows.sort(key=lambda row: (row[0].level != "record", -(row[2].estimate.value if row[2] else -1)))
    return rows


def _most_curves(results: Results) -> int:
    return max((sum(curve.level == level for curve in results.curves) for level in ("record", "user")), default=0)


def _paper_link(paper: str) -> str:
    """Address of a paper named ``arXiv:…``; empty for anything else, so that no text can become an address."""
    found = re.fullmatch(r"arXiv:(\d{4}\.\d{4,5})", paper)
    return f"https://arxiv.org/abs/{found[1]}" if found else ""
