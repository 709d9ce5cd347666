# SPDX-License-Identifier: Apache-2.0
"""The page's plots, as inline SVG of at most 440 units width, so that a phone shows their text at a readable size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from reticent.core.finding import Estimate
from reticent.core.results import CanaryExposure, Curve, Distribution, ExtractionCurve, GuaranteeBound
from reticent.report import number_format as numbers
from reticent.report.svg import COLOURS, Scale, frame, series, short, steps, tag, x_axis, y_axis

WIDTH = 440.0
FEW = 10
"""A false positive rate is measured only where at least this many held-out units lie above the threshold."""

BOUND_NAMES = {
    "no assumption on the training": "one run",
    "assumes Gaussian noise": "one run, Gaussian",
    "assumes that units do not interact": "Clopper-Pearson",
    "assumes Gaussian noise and that units do not interact; by error rates": "ROC, Gaussian",
    "assumes Gaussian noise and that units do not interact; by the AUC": "AUC, Gaussian",
    "assumes Gaussian noise that two units may share; by the AUC": "AUC, pairs",
}
"""Short names of the bounds by what they assume."""


def roc(identity: str, curves: Sequence[Curve]) -> Markup:
    """ROC curves on log-log axes, best at low false positive rates; the part that few units decide is shaded.

    All curves must be of one level. The ``i``-th has the class ``line-i``, by which the page shows and hides it.
    """
    units = max(curve.n_held_out for curve in curves)
    decades = min(max(math.floor(math.log10(max(units, 1))), 2), 4)
    lowest = 10.0**-decades
    x = Scale(low=lowest, high=1, start=52, end=428, log=True)
    y = Scale(low=lowest, high=1, start=300, end=34, log=True)
    floor = fpr_floor(curves)
    parts = [
        *x_axis(x, 34, 300, "false positive rate (held-out called members)", percent),
        *y_axis(y, 52, 428, "true positive rate (members found)", percent),
    ]
    if floor > lowest:
        parts.append(tag("rect", class_="shade", x=52, y=34, width=x(floor) - 52, height=266))
        parts.append(tag("line", class_="floor", x1=x(floor), x2=x(floor), y1=34, y2=300))
    parts += [
        tag("path", class_=f"band band-{i}", d=_band(curve, x, y)) for i, curve in enumerate(curves) if curve.band
    ]
    parts.append(tag("line", class_="chance", x1=52, y1=300, x2=428, y2=34))
    for i, curve in enumerate(curves):
        visible = max(sum(fpr <= lowest for fpr in curve.fpr) - 1, 0)
        path = steps([x(fpr) for fpr in curve.fpr[visible:]], [y(tpr) for tpr in curve.tpr[visible:]])
        parts.append(tag("path", class_=f"line line-{i} {series(i)}", d=path))
    best = "; ".join(f"{curve.attack} {_tpr_at(curve, max(floor, 0.01)) * 100:.0f} %" for curve in curves[:4])
    description = (
        f"True positive rate against false positive rate of {len(curves)} attacks, both axes logarithmic from "
        f"{percent(lowest)} to 100 %. Members found at {percent(max(floor, 0.01))} false positives: {best}. "
        f"Below {percent(floor)} fewer than {FEW} held-out units decide, so nothing can be read there."
    )
    return frame(identity, WIDTH, 342, f"ROC curves, {curves[0].level} level", description, *parts)


def _band(curve: Curve, x: Scale, y: Scale) -> str:
    """Between the lower ends and the upper ones, each of which holds until the next place of the band."""
    last = (1.0, curve.band[-1][1], 1.0)
    rows = [*curve.band, last]
    low = [(x(fpr), y(lo)) for fpr, lo, _ in rows]
    high = [(x(fpr), y(hi)) for fpr, _, hi in rows][::-1]
    under = "".join(f"H{short(left)}V{short(down)}" for left, down in low[1:])
    over = "".join(f"H{short(left)}V{short(up)}" for left, up in high[1:])
    return f"M{short(low[0][0])} {short(low[0][1])}{under}V{short(high[0][1])}{over}Z"


def fpr_floor(curves: Sequence[Curve]) -> float:
    """The false positive rate below which fewer than ``FEW`` held-out units decide; 1 where all rates are."""
    units = max((curve.n_held_out for curve in curves), default=0)
    return min(FEW / units, 1.0) if units else 1.0


def histogram(identity: str, distribution: Distribution) -> Markup:
    """Scores of members and held-out as shares of each group, on one axis."""
    edges = distribution.edges
    shares = [_shares(distribution.held_out), _shares(distribution.member)]
    top = max(*shares[0], *shares[1], 1e-9)
    x = Scale(low=edges[0], high=edges[-1] if edges[-1] > edges[0] else edges[0] + 1, start=8, end=252)
    y = Scale(low=0, high=top, start=104, end=8)
    parts: list[Markup] = []
    for name, counts in zip(("held-out", "member"), shares, strict=True):
        outline = f"M{short(x(edges[0]))} {short(y(0))}" + "".join(
            f"V{short(y(share))}H{short(x(right))}" for share, right in zip(counts, edges[1:], strict=True)
        )
        parts.append(tag("path", class_=f"area {name}", d=f"{outline}V{short(y(0))}Z"))
    parts.append(tag("line", class_="base", x1=8, x2=252, y1=104, y2=104))
    for place, anchor in ((edges[0], "start"), (edges[-1], "end")):
        parts.append(tag("text", _score(place), class_="tick", x=x(place), y=119, text_anchor=anchor))
    parts.append(tag("text", "score →", class_="tick", x=130, y=119, text_anchor="middle"))
    middles = [_median(edges, counts) for counts in (distribution.member, distribution.held_out)]
    description = (
        f"Histogram of {sum(distribution.member):,} members, median score {_score(middles[0])}, and "
        f"{sum(distribution.held_out):,} held-out units, median score {_score(middles[1])}."
    )
    return frame(identity, 260, 124, f"Scores of {distribution.attack}", description, *parts)


def exposure(identity: str, tiers: Sequence[CanaryExposure]) -> Markup:
    """One column a tier: a dot for each canary, the median with its interval, and the ceiling of what can be seen."""
    ceiling = max(tier.ceiling for tier in tiers)
    low = min(0.0, *(value for tier in tiers for value in (*tier.each, tier.bits.value)))
    x = Scale(low=-0.5, high=len(tiers) - 0.5, start=40, end=428)
    y = Scale(low=low, high=max(ceiling * 1.06, 1.0), start=280, end=34)
    parts = y_axis(y, 40, 428, "exposure (bits)", lambda value: f"{value:g}")
    parts.append(tag("line", class_="ceiling", x1=40, x2=428, y1=y(ceiling), y2=y(ceiling)))
    label = f"dashed: all that {2**ceiling - 1:,.0f} controls can show"
    parts.append(tag("text", label, class_="tick", x=428, y=20, text_anchor="end"))
    room = (x(1) - x(0)) * 0.22
    for column, tier in enumerate(tiers):
        planted = "planted" if tier.repetitions else "control"
        for i, bits in enumerate(tier.each):
            jitter = ((i * 0.618034) % 1 - 0.5) * room
            parts.append(tag("circle", class_=f"canary {planted}", cx=x(column) - room + jitter, cy=y(bits), r=3.4))
        parts += _whisker_up(x(column) + room * 0.7, y, tier.bits, planted)
        name = "never" if not tier.repetitions else f"{tier.repetitions} ×"
        parts.append(tag("text", name, class_="tick strong", x=x(column), y=299, text_anchor="middle"))
        parts.append(tag("text", f"n = {len(tier.each)}", class_="tick", x=x(column), y=315, text_anchor="middle"))
    parts.append(tag("text", "times planted in the training data", class_="axis", x=234, y=336, text_anchor="middle"))
    description = ". ".join(f"{tier.tier}: median {numbers.show(tier.bits)}, n = {len(tier.each)}" for tier in tiers)
    return frame(identity, WIDTH, 344, f"Exposure of planted {tiers[0].kind} canaries", f"{description}.", *parts)


def extraction(identity: str, curves: Sequence[ExtractionCurve]) -> Markup:
    """Share of secrets that come up within so many samples: solid for this model, dotted for its base.

    The ``i``-th curve has the ``i``-th series colour, by which the page's legend names it.
    """
    most = max(max(curve.queries) for curve in curves)
    x = Scale(low=1, high=max(most, 10.0), start=52, end=428, log=True)
    y = Scale(low=0, high=1, start=280, end=34)
    parts = [
        *x_axis(x, 34, 280, "samples that an attacker draws", lambda value: f"{value:,.0f}".replace(",", "\u202f")),
        *y_axis(y, 52, 428, f"secrets that come up with probability ≥ {curves[0].p:g}", percent),
    ]
    for i, curve in enumerate(curves):
        for shares, pattern in ((curve.base, "d2 thin"), (curve.target, "d0")):
            if shares:
                places = [(x(n), y(share)) for n, share in zip(curve.queries, shares, strict=True)]
                path = steps([place[0] for place in places], [place[1] for place in places])
                parts.append(tag("path", class_=f"line-swatch c{i % COLOURS} {pattern}", d=path))
    description = "; ".join(
        f"{curve.group} (n = {curve.n}): {percent(curve.target[-1])} within {curve.queries[-1]:,.0f} samples"
        + (f", base {percent(curve.base[-1])}" if curve.base else "")
        for curve in curves
    )
    return frame(identity, WIDTH, 322, "Secrets that come up by number of samples", f"{description}.", *parts)


def forest(identity: str, rows: Sequence[tuple[str, Estimate]]) -> Markup:
    """AUC of every attack with its interval, one row each, and the line of chance."""
    height, top = 22.0, 30.0
    bottom = top + height * len(rows)
    low = min(0.45, *(math.floor(max(estimate.lo, 0) * 20) / 20 for _, estimate in rows))
    high = max(0.6, *(math.ceil(min(estimate.hi, 1) * 20) / 20 for _, estimate in rows))
    x = Scale(low=low, high=high, start=132, end=304, most=4)
    parts = x_axis(x, top, bottom, "AUC (0.5 = guessing)", lambda value: f"{value:g}")
    parts.append(tag("line", class_="chance", x1=x(0.5), x2=x(0.5), y1=top - 6, y2=bottom))
    parts.append(tag("text", "chance", class_="tick", x=x(0.5), y=top - 11, text_anchor="middle"))
    for i, (name, estimate) in enumerate(rows):
        y = top + height * (i + 0.5)
        away = "away" if estimate.lo > 0.5 else "near"
        parts.append(tag("text", _clip(name, 18), class_="tick strong", x=124, y=y + 4, text_anchor="end"))
        parts.append(tag("line", class_=f"whisker {away}", x1=x(estimate.lo), x2=x(estimate.hi), y1=y, y2=y))
        parts.append(tag("circle", class_=f"mark {away}", cx=x(estimate.value), cy=y, r=4))
        shown = numbers.show(estimate, "auc")
        parts.append(tag("text", f"{shown.value} {shown.interval}", class_="tick num", x=314, y=y + 4))
    description = "; ".join(f"{name} {numbers.show(estimate, 'auc')}" for name, estimate in rows)
    return frame(identity, WIDTH, bottom + 44, "AUC of every attack with its interval", f"{description}.", *parts)


def promise(identity: str, promised: float, rows: Sequence[GuaranteeBound]) -> Markup:
    """The promised ε as a bar, and below it the audited lower bounds that are held against it, by what had the coins.

    A bound is a bar up to what was shown; the truth may lie anywhere to its right, up to the promise if it holds.
    """
    top, height, gap = 46.0, 20.0, 26.0
    most = max(promised, *(row.estimate.value for row in rows), 0.01) * 1.04
    x = Scale(low=0, high=most, start=138, end=366, most=4)
    kinds = list(dict.fromkeys(row.units for row in rows))
    bottom = top + gap * len(kinds) + height * len(rows) + 6
    parts = x_axis(x, top - 18, bottom, "ε (nats)", lambda value: f"{value:g}")
    parts.append(tag("rect", class_="bar-promised", x=x(0), y=top - 16, width=x(promised) - x(0), height=13, rx=2))
    parts.append(tag("text", "promised, at most", class_="tick strong", x=130, y=top - 5, text_anchor="end"))
    parts.append(tag("text", epsilon(promised, up=True), class_="tick num", x=374, y=top - 5))
    parts.append(tag("line", class_="ceiling", x1=x(promised), x2=x(promised), y1=top - 22, y2=bottom))
    y = top
    for kind in kinds:
        of_kind = [row for row in rows if row.units == kind]
        label = f"audited by {of_kind[0].estimate.n:,} {kind}, at least"
        parts.append(tag("text", label, class_="tick halo", x=x(0), y=y + 17))
        y += gap
        for row in of_kind:
            shown = row.estimate.value
            style = "bar-broken" if row.broken else "bar-alone" if row.alone else "bar-fill"
            parts.append(tag("text", BOUND_NAMES.get(row.assumption, "other"), class_="tick strong", x=130, y=y + 9,
                             text_anchor="end"))  # fmt: skip
            parts.append(tag("rect", class_=style, x=x(0), y=y - 1, width=max(x(shown) - x(0), 1.5), height=12, rx=2))
            parts.append(tag("text", epsilon(shown), class_="tick num", x=374, y=y + 9))
            y += height
    described = "; ".join(
        f"{row.units}, {BOUND_NAMES.get(row.assumption, row.assumption)}: at least {epsilon(row.estimate.value)}"
        + (", more than promised" if row.broken else "")
        for row in rows
    )
    description = f"Promised: at most {epsilon(promised, up=True)}. Audited by {described}."
    return frame(identity, WIDTH, bottom + 44, "Promised and audited ε", description, *parts)


def epsilon(value: float, *, up: bool = False) -> str:
    """Two decimals, never in the flattering direction: an upper bound is rounded up, a lower bound down."""
    shifted = value * 100
    return f"{(math.ceil(shifted - 1e-7) if up else math.floor(shifted + 1e-7)) / 100:,.2f}".replace(",", "\u202f")


def gauge(identity: str, estimate: Estimate, *, low: float, high: float, chance: float | None, title: str) -> Markup:
    """A small scale with the estimate, its interval and chance, for a card."""
    x = Scale(low=low, high=high, start=6, end=214)
    parts = [tag("line", class_="track", x1=6, x2=214, y1=14, y2=14)]
    if chance is not None:
        parts.append(tag("line", class_="chance", x1=x(chance), x2=x(chance), y1=4, y2=24))
    parts.append(tag("line", class_="whisker wide", x1=x(estimate.lo), x2=x(estimate.hi), y1=14, y2=14))
    parts.append(tag("circle", class_="mark", cx=x(estimate.value), cy=14, r=5))
    parts.append(tag("text", f"{low:g}", class_="tick", x=6, y=38))
    parts.append(tag("text", f"{high:g}", class_="tick", x=214, y=38, text_anchor="end"))
    if chance is not None and x(chance) > 40:
        parts.append(tag("text", "chance", class_="tick", x=x(chance), y=38, text_anchor="middle"))
    return frame(identity, 220, 42, title, f"{numbers.show(estimate)} on a scale from {low:g} to {high:g}.", *parts)


def bar(share: float) -> Markup:
    """A bar of length ``share`` (0 to 1) that repeats a number beside it, so it is hidden from screen readers."""
    return tag(
        "svg",
        tag("rect", class_="track-fill", x=0, y=2, width=80, height=8, rx=2),
        tag("rect", class_="bar-fill", x=0, y=2, width=80 * min(max(share, 0.0), 1.0), height=8, rx=2),
        viewBox="0 0 80 12",
        class_="bar",
        aria_hidden="true",
    )


def _whisker_up(at: float, y: Scale, estimate: Estimate, kind: str) -> list[Markup]:
    value = y(estimate.value)
    return [
        tag("line", class_=f"whisker {kind}", x1=at, x2=at, y1=y(estimate.lo), y2=y(estimate.hi)),
        tag("path", class_=f"mark {kind}", d=f"M{short(at - 8)} {short(value)}h16"),
    ]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _median(edges: Sequence[float], counts: Sequence[int]) -> float:
    """Middle of the bin in which the median lies."""
    seen, total = 0, sum(counts)
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        seen += count
        if 2 * seen >= total:
            return (left + right) / 2
    return edges[-1]


def _tpr_at(curve: Curve, fpr: float) -> float:
    return max(tpr for x, tpr in zip(curve.fpr, curve.tpr, strict=True) if x <= fpr)


def percent(share: float) -> str:
    """A rate with up to two digits."""
    return f"{share * 100:.2g} %" if share < 1 else "100 %"


def _score(value: float) -> str:
    return f"{value:.2g}".replace("-", "−") if abs(value) < 100 else f"{value:.0f}".replace("-", "−")


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
