# SPDX-License-Identifier: Apache-2.0
"""The plots of a comparison, as inline SVG. A setting has the same colour and line pattern in all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from reticent.core.finding import Estimate
from reticent.report import number_format as numbers
from reticent.report.svg import Scale, frame, series, short, tag, x_axis, y_axis

WIDTH = 440.0
NAME = 20
"""Letters of a setting's name that fit beside a row."""
PHASE_WORDS = {
    "start": "start",
    "fitting": "fitting",
    "memorization": "memorization only",
    "overfitting": "overfitting",
}


class Dot(NamedTuple):
    """One point of a setting: perplexity, leakage, and whether its frontier goes through it."""

    perplexity: float
    leak: float
    on_frontier: bool


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A setting in the trade-off: ``number`` gives its colour, ``best`` its best perplexity and leakage there."""

    number: int
    name: str
    dots: tuple[Dot, ...]
    best: tuple[float, Estimate]


@dataclass(frozen=True, kw_only=True)
class PlotPoint:
    """One look: epoch, perplexity, AUC and phase."""

    epoch: float
    perplexity: float
    auc: float
    phase: str


@dataclass(frozen=True, kw_only=True)
class PlotTrack:
    """The looks of one learning rate; ``best`` marks the one whose phases are shaded."""

    rate: float
    steps: tuple[PlotPoint, ...]
    best: bool


def trade_off(
    identity: str, clouds: Sequence[Cloud], *, base: float, matched: float | None, leak: str, chance: float
) -> Markup:
    """Leakage against held-out perplexity; lower left is better. A line is the frontier of a setting.

    Args:
        base: perplexity of the untrained model; what is worse is drawn at the right edge.
        matched: perplexity at which all are compared.
        leak: what the vertical axis shows.
        chance: its value for a model that learned nothing.
    """
    seen = [dot.perplexity for cloud in clouds for dot in cloud.dots]
    low, high = min(seen), min(max(seen), max(base, min(seen)))
    room = max(high - low, 0.02 * high) * 0.06
    x = Scale(low=low - room, high=high + room, start=52, end=428, most=5)
    leaks = [dot.leak for cloud in clouds for dot in cloud.dots]
    leaks += [end for cloud in clouds for end in (cloud.best[1].lo, cloud.best[1].hi)]
    y = Scale(low=max(min(*leaks, chance) - 0.02, 0), high=min(max(leaks) + 0.02, 1.0), start=300, end=34, most=5)
    parts = [
        *x_axis(x, 34, 300, "held-out perplexity (lower is more useful)", lambda value: f"{value:g}"),
        *y_axis(y, 52, 428, f"{leak} (lower leaks less)", lambda value: f"{value:g}"),
        tag("line", class_="chance", x1=52, x2=428, y1=y(chance), y2=y(chance)),
    ]
    if matched is not None:
        parts.append(tag("line", class_="ceiling", x1=x(matched), x2=x(matched), y1=34, y2=300))
        parts.append(tag("text", "same utility", class_="tick halo", x=x(matched) + 4, y=45))
    for cloud in clouds:
        look = series(cloud.number)
        corners = sorted((dot.perplexity, dot.leak) for dot in cloud.dots if dot.on_frontier)
        path = "L".join(f"{short(x(across))} {short(y(up))}" for across, up in corners)
        parts.append(tag("path", class_=f"curve {look}", d=f"M{path}"))
        parts += [
            tag(
                "circle",
                class_=f"dot {look}{'' if dot.on_frontier else ' off'}",
                cx=x(dot.perplexity),
                cy=y(dot.leak),
                r=3,
            )
            for dot in cloud.dots
        ]
        at, best = cloud.best
        parts.append(tag("line", class_=f"curve {look} solid", x1=x(at), x2=x(at), y1=y(best.lo), y2=y(best.hi)))
        parts.append(tag("circle", class_=f"ring {look}", cx=x(at), cy=y(best.value), r=5.5))
    words = "; ".join(
        f"{cloud.name}: perplexity {cloud.best[0]:.2f}, {leak} {numbers.show(cloud.best[1])}" for cloud in clouds
    )
    return frame(
        identity, WIDTH, 342, f"{leak} against held-out perplexity", f"At its best perplexity, {words}.", *parts
    )


def forest(identity: str, rows: Sequence[tuple[str, int, Estimate]], *, title: str, axis: str, chance: float) -> Markup:
    """One row a setting with its interval, ``(name, number, estimate)``, and a line at ``chance``."""
    height, top = 24.0, 14.0
    bottom = top + height * len(rows)
    ends = [end for _, _, estimate in rows for end in (estimate.lo, estimate.hi) if math.isfinite(end)]
    low, high = min(*ends, chance), max(*ends, chance)
    room = max(high - low, 1e-3) * 0.05
    x = Scale(low=low - room, high=high + room, start=150, end=288, most=3)
    parts = x_axis(x, top, bottom, axis, lambda value: f"{value:g}".replace("-", "−"))
    parts.append(tag("line", class_="chance", x1=x(chance), x2=x(chance), y1=top - 6, y2=bottom))
    for i, (name, number, estimate) in enumerate(rows):
        y = top + height * (i + 0.5)
        parts.append(tag("text", _clip(name), class_="tick strong", x=142, y=y + 4, text_anchor="end"))
        parts.append(
            tag("line", class_=f"curve {series(number)} solid", x1=x(estimate.lo), x2=x(estimate.hi), y1=y, y2=y)
        )
        parts.append(tag("circle", class_=f"dot {series(number)}", cx=x(estimate.value), cy=y, r=4.5))
        shown = numbers.show(estimate)
        parts.append(tag("text", f"{shown.value} {shown.interval}", class_="tick num", x=296, y=y + 4))
    words = "; ".join(f"{name} {numbers.show(estimate)}" for name, _, estimate in rows)
    return frame(identity, WIDTH, bottom + 44, title, f"{words}.", *parts)


def by_epoch(identity: str, name: str, tracks: Sequence[PlotTrack]) -> Markup:
    """Perplexity above and AUC below over the epochs, a line a learning rate, with the best one's phases shaded."""
    last = max(step.epoch for track in tracks for step in track.steps)
    trained = [step for track in tracks for step in track.steps if step.epoch > 0]
    x = Scale(low=0, high=max(last, 1e-9), start=52, end=428, most=6)
    worst = max(step.perplexity for step in trained)
    best = min(step.perplexity for step in trained)
    room = max(worst - best, 0.02 * worst) * 0.1
    top = Scale(low=best - room, high=worst + room, start=150, end=34, most=3)
    aucs = [step.auc for track in tracks for step in track.steps]
    below = Scale(low=min(*aucs, 0.5) - 0.01, high=min(max(*aucs, 0.6) + 0.01, 1), start=290, end=200, most=3)
    parts: list[Markup] = []
    for start, end, phase in _shaded(next(track for track in tracks if track.best)):
        for scale in (top, below):
            parts.append(tag("rect", class_=f"phase {phase}", x=x(start), y=scale.end, width=x(end) - x(start),
                             height=scale.start - scale.end))  # fmt: skip
    parts += y_axis(top, 52, 428, "held-out perplexity", lambda value: f"{value:g}")
    parts += y_axis(below, 52, 428, "AUC of the record attack", lambda value: f"{value:.3g}")
    parts += x_axis(x, 290, 290, "epoch", lambda value: f"{value:g}")
    parts.append(tag("line", class_="chance", x1=52, x2=428, y1=below(0.5), y2=below(0.5)))
    for i, track in enumerate(tracks):
        seen = [step for step in track.steps if step.epoch > 0]
        for scale, steps, value in ((top, seen, "perplexity"), (below, track.steps, "auc")):
            places = [(x(step.epoch), scale(getattr(step, value))) for step in steps]
            path = "L".join(f"{short(across)} {short(up)}" for across, up in places)
            look = f"rate-{i % 3}{' main' if track.best else ''}"
            parts.append(tag("path", class_=f"curve {look}", d=f"M{path}"))
            parts += [tag("circle", class_=f"dot {look}", cx=across, cy=up, r=2.6) for across, up in places]
    words = "; ".join(
        f"learning rate {track.rate:g}: perplexity {track.steps[-1].perplexity:.2f}, AUC {track.steps[-1].auc:.3f}, "
        f"{PHASE_WORDS[track.steps[-1].phase]}"
        for track in tracks
    )
    return frame(identity, WIDTH, 334, f"{name} by epoch", f"At the end, {words}.", *parts)


def _shaded(track: PlotTrack) -> list[tuple[float, float, str]]:
    """Stretches between looks in the phase that the later of the two showed."""
    pairs = zip(track.steps, track.steps[1:], strict=False)
    return [(before.epoch, after.epoch, after.phase) for before, after in pairs if after.phase != "start"]


def lines(
    identity: str, rows: Sequence[tuple[str, int, Sequence[tuple[float, Estimate]]]], *, title: str, chance: float
) -> Markup:
    """One line a setting, ``(name, number, ((epoch, estimate), …))``, with the last estimate's interval."""
    every = [(epoch, estimate) for _, _, points in rows for epoch, estimate in points]
    x = Scale(low=0, high=max(epoch for epoch, _ in every) * 1.04, start=52, end=428, most=6)
    values = [estimate.value for _, estimate in every] + [end for *_, points in rows for end in _ends(points[-1][1])]
    y = Scale(low=max(min(*values, chance) - 0.02, 0), high=min(max(values) + 0.02, 1), start=270, end=34, most=5)
    parts = [
        *x_axis(x, 34, 270, "epoch", lambda value: f"{value:g}"),
        *y_axis(y, 52, 428, title, lambda value: f"{value:g}"),
        tag("line", class_="chance", x1=52, x2=428, y1=y(chance), y2=y(chance)),
    ]
    for i, (_, number, points) in enumerate(rows):
        look = series(number)
        places = [(0.0, chance), *((epoch, estimate.value) for epoch, estimate in points)]
        path = "L".join(f"{short(x(epoch))} {short(y(value))}" for epoch, value in places)
        parts.append(tag("path", class_=f"curve {look}", d=f"M{path}"))
        epoch, last = points[-1]
        at = x(epoch) + (i - (len(rows) - 1) / 2) * 2.5
        parts.append(tag("line", class_=f"curve {look} solid thin", x1=at, x2=at, y1=y(last.lo), y2=y(last.hi)))
        parts.append(tag("circle", class_=f"dot {look}", cx=at, cy=y(last.value), r=4))
    words = "; ".join(f"{name} {numbers.show(points[-1][1])}" for name, _, points in rows)
    return frame(identity, WIDTH, 312, title, f"At the end, {words}.", *parts)


def exposure(identity: str, rows: Sequence[tuple[str, int, Estimate, Estimate | None]]) -> Markup:
    """One row a setting: median exposure of the secrets planted most often (filled), and of those never planted."""
    height, top = 30.0, 14.0
    bottom = top + height * len(rows)
    ends = [
        end
        for _, _, planted, never in rows
        for estimate in (planted, never)
        if estimate
        for end in (estimate.value, *_ends(estimate))
    ]
    x = Scale(low=0, high=max(*ends, 1.0) * 1.05, start=150, end=330, most=4)
    parts = x_axis(x, top, bottom, "exposure (bits)", lambda value: f"{value:g}")
    for i, (name, number, planted, never) in enumerate(rows):
        y = top + height * (i + 0.5)
        parts.append(tag("text", _clip(name), class_="tick strong", x=142, y=y + 4, text_anchor="end"))
        for estimate, place, look in ((planted, y - 5, series(number)), (never, y + 6, "control")):
            if estimate is None:
                continue
            parts.append(
                tag(
                    "line",
                    class_=f"curve {look} solid",
                    x1=x(estimate.lo),
                    x2=x(min(estimate.hi, x.high)),
                    y1=place,
                    y2=place,
                )
            )
            parts.append(tag("circle", class_=f"dot {look}", cx=x(estimate.value), cy=place, r=4))
        parts.append(tag("text", str(numbers.show(planted).value), class_="tick num", x=338, y=y + 4))
    words = "; ".join(f"{name} {numbers.show(planted)}" for name, _, planted, _ in rows)
    return frame(identity, WIDTH, bottom + 44, "Exposure of planted secrets", f"Median exposure: {words}.", *parts)


def _ends(estimate: Estimate) -> list[float]:
    return [end for end in (estimate.lo, estimate.hi) if math.isfinite(end)]


def _clip(text: str) -> str:
    return text if len(text) <= NAME else f"{text[: NAME - 1]}…"
