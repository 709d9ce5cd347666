# SPDX-License-Identifier: Apache-2.0
"""Every figure of a report: the drawing, what it is called, what its colours mean, and the numbers that it shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from markupsafe import Markup

from reticent.core.finding import Estimate
from reticent.core.results import CanaryExposure, Curve, Distribution, ExtractionCurve, GuaranteeBound, Results
from reticent.report import number_format as numbers
from reticent.report import plots, promise_plots, summary
from reticent.report.heading import model_name
from reticent.report.svg import called, series

Cell = str | float | int | None

LEVELS = ("record", "user")


class Key(NamedTuple):
    """The meaning of one colour or pattern: classes of its swatch, words, and a number beside them."""

    classes: str
    words: str
    number: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    Args:
        name: of its files, without the suffix.
        part: of the page that it belongs to: "promise", "allowed", "roc", "scores", "exposure", "pulled" or "forest".
        level: "record" or "user"; empty where it is of neither.
        title: what it shows, without the model.
        caption: what the page writes above it.
        drawing: as the page shows it.
        key: of colours and patterns that the drawing does not name itself.
        note: what to know when reading it.
        columns: of its numbers.
        rows: its numbers.
    """

    name: str
    part: str
    level: str = ""
    title: str
    caption: str = ""
    drawing: Markup
    key: tuple[Key, ...] = ()
    note: str = ""
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def figures(results: Results) -> list[Figure]:
    """The figures in the order of the page; each drawing is titled with its model."""
    drawn = [
        *_promises(results),
        *_allowed(results),
        *(figure for level in LEVELS for figure in _roc(results, level)),
        *_histograms(results),
        *(figure for kind in LEVELS for figure in _exposure(results, kind)),
        *_pulled(results),
        *(figure for level in LEVELS for figure in _forest(results, level)),
    ]
    model, taken = model_name(results), set[str]()
    named = []
    for figure in drawn:
        name = figure.name
        while name in taken:
            name = f"{name}-2"
        taken.add(name)
        named.append(replace(figure, name=name, drawing=called(figure.drawing, model)))
    return named


def _promises(results: Results) -> Iterable[Figure]:
    """One for each ε that was promised or is implied and that something was held against."""
    if results.promise is None:
        return
    groups: dict[tuple[str, str], list[tuple[float, GuaranteeBound]]] = {}
    for row in results.promise.bounds:
        if row.promised is not None:
            groups.setdefault((row.unit, plots.epsilon(row.promised, up=True)), []).append((row.promised, row))
    for i, ((unit, _), rows) in enumerate(groups.items()):
        bounds = [row for _, row in rows]
        yield Figure(
            name=f"promise-{unit}",
            part="promise",
            title=f"Promised and audited ε per {unit}",
            caption=f"ε per {unit}{'' if unit == results.promise.unit else ', as the promise implies'}",
            drawing=plots.promise(f"promise-{i}", max(promised for promised, _ in rows), bounds),
            columns=("units", "unit", "assumption", "at_least", "promised_at_most", "n", "measured_in"),
            rows=tuple(
                (row.units, row.unit, row.assumption, row.estimate.value, row.promised, row.estimate.n,
                 row.estimate.unit) for row in bounds
            ),
        )  # fmt: skip


def _allowed(results: Results) -> Iterable[Figure]:
    """The curve of what the promise allows, beside that of the attack that is held against it."""
    promise = results.promise
    if promise is None or not promise.roc:
        return
    measured = [curve for curve in results.curves if (curve.level, curve.attack) == (promise.unit, promise.auc_attack)]
    rows: list[tuple[Cell, ...]] = [("allowed", fpr, tpr) for fpr, tpr in promise.roc]
    key = [Key("allowed", "the most that the promise allows")]
    if measured:
        rows += [(measured[0].attack, *row) for row in zip(measured[0].fpr, measured[0].tpr, strict=True)]
        key.append(Key("line-swatch c0 d0", f"{measured[0].attack}, as measured"))
    yield Figure(
        name="promise-curve",
        part="allowed",
        level=promise.unit,
        title="What the promise allows and what was found",
        caption="Members found, at most",
        drawing=promise_plots.allowed("promise-allowed", promise.roc, measured[0] if measured else None),
        key=tuple(key),
        columns=("curve", "false_positive_rate", "true_positive_rate"),
        rows=tuple(rows),
    )


def _roc(results: Results, level: str) -> Iterable[Figure]:
    aucs = dict(summary.aucs(results, level))
    order = {name: rank for rank, name in enumerate(aucs)}
    curves: list[Curve] = [curve for curve in results.curves if curve.level == level]
    curves.sort(key=lambda curve: order.get(curve.attack, len(order)))
    if not curves:
        return
    floor = plots.percent(plots.fpr_floor(curves))
    yield _of_level(
        level,
        name="roc",
        part="roc",
        title="ROC curves",
        drawing=plots.roc(f"roc-{level}", curves),
        key=tuple(
            Key(f"line-swatch {series(i)}", curve.attack, _auc_text(aucs.get(curve.attack)))
            for i, curve in enumerate(curves)
        ),
        note=f"Shaded: below {floor} false positives fewer than {plots.FEW} held-out {level}s decide, too few to say."
        + "".join(
            f" Tinted: where the whole true curve of {curve.attack} lies (95 %; the attack named beforehand)."
            for curve in curves
            if curve.band
        ),
        columns=("attack", "level", "false_positive_rate", "true_positive_rate", "lo", "hi", "n_member", "n_held_out"),
        rows=tuple(row for curve in curves for row in _curve_rows(curve)),
    )


def _curve_rows(curve: Curve) -> Iterable[tuple[Cell, ...]]:
    """The curve's points, and after them the band's, which have ends instead of a rate."""
    units = (curve.n_member, curve.n_held_out)
    for fpr, tpr in zip(curve.fpr, curve.tpr, strict=True):
        yield (curve.attack, curve.level, fpr, tpr, "", "", *units)
    for fpr, lo, hi in curve.band:
        yield (curve.attack, curve.level, fpr, "", lo, hi, *units)


def _auc_text(estimate: Estimate | None) -> str:
    return numbers.show(estimate, "auc").value if estimate else ""


def _histograms(results: Results) -> Iterable[Figure]:
    """The attacks that leak most first."""
    order = {
        (level, name): (level != "record", -estimate.value)
        for level in LEVELS
        for name, estimate in summary.aucs(results, level)
    }
    ranked: Sequence[Distribution] = sorted(
        results.distributions, key=lambda histogram: order.get((histogram.level, histogram.attack), (True, 0.0))
    )
    for i, histogram in enumerate(ranked):
        yield Figure(
            name=f"scores-{histogram.level}-{_file_name(histogram.attack)}",
            part="scores",
            level=histogram.level,
            title=f"Scores of {histogram.attack}, {histogram.level} level",
            caption=histogram.attack,
            drawing=plots.histogram(f"scores-{i}", histogram),
            key=(Key("area member", "members (trained on)"), Key("area held-out", "held-out (never trained on)")),
            columns=("attack", "level", "score_from", "score_to", "members", "held_out"),
            rows=tuple(
                (histogram.attack, histogram.level, low, high, member, held_out)
                for low, high, member, held_out in zip(
                    histogram.edges, histogram.edges[1:], histogram.member, histogram.held_out, strict=False
                )
            ),
        )


def _exposure(results: Results, kind: str) -> Iterable[Figure]:
    tiers: list[CanaryExposure] = [tier for tier in results.exposure if tier.kind == kind]
    tiers.sort(key=lambda tier: tier.repetitions)
    if not tiers:
        return
    rows: list[tuple[Cell, ...]] = []
    for tier in tiers:
        rows.append((tier.tier, tier.repetitions, "median", *_ends(tier.bits), tier.ceiling))
        rows += [(tier.tier, tier.repetitions, "secret", bits, None, None, None, None, tier.ceiling)
                 for bits in tier.each]  # fmt: skip
    yield Figure(
        name=f"exposure-{kind}",
        part="exposure",
        level=kind,
        title=f"Exposure of planted {kind} canaries",
        drawing=plots.exposure(f"exposure-{kind}", tiers),
        columns=("tier", "times_planted", "what", "bits", "low", "high", "n", "confidence", "ceiling_bits"),
        rows=tuple(rows),
    )


def _pulled(results: Results) -> Iterable[Figure]:
    curves: Sequence[ExtractionCurve] = results.extraction.curves if results.extraction else ()
    if not curves or results.extraction is None:
        return
    yield Figure(
        name="extraction",
        part="pulled",
        title="Secrets that come up by number of samples",
        caption="How many samples it takes",
        drawing=plots.extraction("extraction-curve", curves),
        key=(
            *(Key(f"line-swatch {series(i % 6)}", curve.group) for i, curve in enumerate(curves)),
            Key("line-swatch c5 d2 thin", "dotted: the base model"),
        ),
        note=results.extraction.scheme,
        columns=("group", "model", "samples", "share_of_secrets", "probability_at_least", "n"),
        rows=tuple(
            (curve.group, model, queries, share, curve.p, curve.n)
            for curve in curves
            for model, shares in (("target", curve.target), ("base", curve.base))
            for queries, share in zip(curve.queries, shares, strict=False)
        ),
    )


def _forest(results: Results, level: str) -> Iterable[Figure]:
    rows = summary.aucs(results, level)
    if rows:
        yield _of_level(
            level,
            name="auc",
            part="forest",
            title="AUC of every attack",
            drawing=plots.forest(f"forest-{level}", rows),
            columns=("attack", "level", "auc", "low", "high", "n", "confidence"),
            rows=tuple((name, level, *_ends(estimate)) for name, estimate in rows),
        )


def _of_level(level: str, *, name: str, title: str, **more: Any) -> Figure:
    """One of the figures of which there is one for records and one for users."""
    caption = f"{level.capitalize()} level"
    return Figure(name=f"{name}-{level}", title=f"{title}, {level} level", caption=caption, level=level, **more)


def _ends(estimate: Estimate) -> tuple[Cell, ...]:
    """Value, ends, n and the confidence with which the interval holds."""
    confidence = estimate.confidence if estimate.joint is None else estimate.joint
    return (estimate.value, estimate.lo, estimate.hi, estimate.n, confidence)


def _file_name(attack: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", attack.lower()).strip("-")[:60] or "attack"
