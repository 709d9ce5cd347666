# SPDX-License-Identifier: Apache-2.0
"""The plots of an unlearning, as inline SVG. A role has the same colour and mark in all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from reticent.core.finding import Estimate
from reticent.core.unlearning import AFTER, BASE, BEFORE, RETRAINED, Bar, PlanePoint, UnlearningLook
from reticent.report import number_format as numbers
from reticent.report.svg import Scale, frame, series, short, tag, x_axis, y_axis

WIDTH = 440.0
ROLE_WORDS = {AFTER: "unlearned", BEFORE: "untouched", RETRAINED: "retrained", BASE: "base"}
"""In the order of the key."""


def by_step(identity: str, looks: Sequence[UnlearningLook], *, margin: float, stopped_at: int | None) -> Markup:
    """AUC of each attack against steps, with the band that is aimed for and the kept step; retain loss below."""
    last = max(look.step for look in looks)
    retained = [(look.step, look.retain_loss) for look in looks if look.retain_loss is not None]
    x = Scale(low=0, high=max(last, 1) * 1.03, start=52, end=428, most=6)
    y = Scale(low=0, high=1, start=236, end=34, most=5)
    bottom = 320.0 if retained else 236.0
    parts = [
        *y_axis(y, 52, 428, "AUC, forget against unseen rows", lambda value: f"{value:g}"),
        tag("rect", class_="aim", x=52, width=376, y=y(0.5 + margin), height=y(0.5 - margin) - y(0.5 + margin)),
        tag("line", class_="chance", x1=52, x2=428, y1=y(0.5), y2=y(0.5)),
    ]
    names = list(dict.fromkeys(name for look in looks for name in look.aucs))
    for number, name in enumerate(names):
        points = [(look.step, look.aucs[name]) for look in looks if name in look.aucs]
        aside = (number - (len(names) - 1) / 2) * 2.0
        parts += _line(x, y, points, f"curve {series(number)}", f"dot {series(number)}", aside=aside)
    if retained:
        ends = [end for _, loss in retained for end in (loss.value, loss.lo, loss.hi) if math.isfinite(end)]
        room = max(max(ends) - min(ends), 0.02 * max(ends)) * 0.15
        below = Scale(low=min(ends) - room, high=max(ends) + room, start=bottom, end=268, most=3)
        parts += y_axis(below, 52, 428, "loss of retain rows, nats a token", lambda value: f"{value:.3g}")
        parts += _line(x, below, retained, "curve retained", "dot retained")
    if stopped_at is not None:
        at = x(stopped_at)
        parts.append(tag("line", class_="stop", x1=at, x2=at, y1=34, y2=bottom))
        right = at > 340
        label = tag(
            "text",
            f"kept: step {stopped_at}",
            class_="tick strong halo",
            x=at + (-5 if right else 5),
            y=46,
            text_anchor="end" if right else "start",
        )
        parts.append(label)
    parts += x_axis(x, bottom, bottom, "steps of unlearning", lambda value: f"{value:g}")
    words = "; ".join(f"{name} {numbers.show(looks[-1].aucs[name])}" for name in names if name in looks[-1].aucs)
    stop = "" if stopped_at is None else f" The weights of step {stopped_at} were kept."
    return frame(identity, WIDTH, bottom + 44, "AUC against steps", f"At the last look, {words}.{stop}", *parts)


def _line(
    x: Scale, y: Scale, points: Sequence[tuple[int, Estimate]], curve: str, dot: str, *, aside: float = 0.0
) -> list[Markup]:
    """A line through the values; their intervals stand ``aside`` by so many pixels, so that those of others show."""
    places = [(x(step), y(estimate.value)) for step, estimate in points]
    path = "L".join(f"{short(across)} {short(up)}" for across, up in places)
    parts = [tag("path", class_=curve, d=f"M{path}")]
    for (across, up), (_, estimate) in zip(places, points, strict=True):
        at = across + aside
        parts.append(tag("line", class_=f"{curve} thin", x1=at, x2=at, y1=y(estimate.lo), y2=y(estimate.hi)))
        parts.append(tag("circle", class_=dot, cx=across, cy=up, r=2.6))
    return parts


def plane(identity: str, points: Sequence[PlanePoint], *, margin: float) -> Markup:
    """Forget against retain: the aim is the middle of the band, low down. Other methods that were tried are hollow."""
    losses = [end for point in points for end in (point.retain.lo, point.retain.hi, point.retain.value)]
    losses = [end for end in losses if math.isfinite(end)]
    near = [point.retain.value for point in points if point.role != BASE] or losses
    low = min(losses if not near else [*near, *(loss for loss in losses if loss <= max(near))])
    high = max(near)
    room = max(high - low, 0.05 * abs(high), 1e-3) * 0.15
    x = Scale(low=0, high=1, start=52, end=428, most=5)
    y = Scale(low=low - room, high=high + room, start=300, end=34, most=5)
    parts = [
        tag("rect", class_="aim", x=x(0.5 - margin), width=x(0.5 + margin) - x(0.5 - margin), y=34, height=266),
        *x_axis(x, 34, 300, "AUC, forget against unseen rows (0.5 is the aim)", lambda value: f"{value:g}"),
        *y_axis(y, 52, 428, "loss of retain rows, nats a token (lower is better)", lambda value: f"{value:.3g}"),
        tag("line", class_="chance", x1=x(0.5), x2=x(0.5), y1=34, y2=300),
    ]
    for point in sorted(points, key=lambda entry: entry.role == AFTER):
        across, up, role = x(point.forget.value), y(point.retain.value), f"role-{point.role}"
        hollow = point.role == AFTER and point.name != ROLE_WORDS[AFTER]
        parts.append(tag("line", class_=f"reach {role}", x1=x(point.forget.lo), x2=x(point.forget.hi), y1=up, y2=up))
        parts.append(
            tag("line", class_=f"reach {role}", x1=across, x2=across, y1=y(point.retain.lo), y2=y(point.retain.hi))
        )
        parts.append(_mark(point.role, across, up, hollow=hollow))
        if hollow:
            parts.append(tag("text", point.name, class_="tick halo", x=across + 7, y=up - 6))
    words = "; ".join(
        f"{point.name}: AUC {numbers.show(point.forget)}, retain loss {numbers.show(point.retain)}" for point in points
    )
    return frame(identity, WIDTH, 344, "Forget-retain plane", f"{words}.", *parts)


def _mark(role: str, x: float, y: float, *, hollow: bool = False) -> Markup:
    """A role's mark: circle, square, diamond or cross, so that colour is not needed."""
    classes = f"place role-{role}{' hollow' if hollow else ''}"
    if role == BEFORE:
        return tag("rect", class_=classes, x=x - 4.5, y=y - 4.5, width=9, height=9)
    if role == RETRAINED:
        return tag("path", class_=classes, d=f"M{short(x)} {short(y - 6)}l6 6l-6 6l-6 -6Z")
    if role == BASE:
        return tag("path", class_=f"{classes} crossed", d=f"M{short(x - 4)} {short(y - 4)}l8 8m0 -8l-8 8")
    return tag("circle", class_=classes, cx=x, cy=y, r=5.5)


def key_mark(role: str) -> Markup:
    """The mark of a role as a swatch."""
    return tag("svg", _mark(role, 13, 7), class_="swatch", viewBox="0 0 26 14", aria_hidden="true")


def line_swatch(number: int) -> Markup:
    """The swatch of the ``number``-th attack."""
    path = tag("path", class_=f"line-swatch {series(number)}", d="M1 5h24")
    return tag("svg", path, class_="swatch", viewBox="0 0 26 10", aria_hidden="true")


def robustness(identity: str, bars: Sequence[Bar], *, margin: float) -> Markup:
    """A group of bars for each treatment, from an AUC of 0.5: unlearned above its controls, retrained models as one."""
    groups: dict[str, dict[str, list[Estimate]]] = {}
    for bar in bars:
        groups.setdefault(bar.treatment, {}).setdefault(bar.role, []).append(bar.auc)
    step, title, y = 14.0, 18.0, 20.0
    left, right = 104.0, 330.0
    x = Scale(low=0, high=1, start=left, end=right, most=5)
    bottom = y + sum(title + step * len(roles) + 8 for roles in groups.values())
    parts = [
        tag("rect", class_="aim", x=x(0.5 - margin), width=x(0.5 + margin) - x(0.5 - margin), y=y, height=bottom - y),
        *x_axis(x, y, bottom, "AUC, forget against unseen rows", lambda value: f"{value:g}"),
        tag("line", class_="chance", x1=x(0.5), x2=x(0.5), y1=y, y2=bottom),
    ]
    for treatment, roles in groups.items():
        parts.append(tag("text", treatment, class_="tick strong halo", x=2, y=y + 12))
        y += title
        for role in (name for name in ROLE_WORDS if name in roles):
            parts += _bar(x, y, role, roles[role], left, right)
            y += step
        y += 8
    words = "; ".join(
        f"{treatment}: "
        + ", ".join(f"{ROLE_WORDS[role]} {together(roles[role])[0]:.2f}" for role in ROLE_WORDS if role in roles)
        for treatment, roles in groups.items()
    )
    return frame(identity, WIDTH, bottom + 44, "AUC after each treatment", f"{words}.", *parts)


def together(estimates: Sequence[Estimate]) -> tuple[float, float, float]:
    """Mean value, and the hull of the intervals."""
    value = sum(estimate.value for estimate in estimates) / len(estimates)
    return value, min(estimate.lo for estimate in estimates), max(estimate.hi for estimate in estimates)


def _bar(x: Scale, y: float, role: str, estimates: Sequence[Estimate], left: float, right: float) -> list[Markup]:
    value, low, high = together(estimates)
    start, end = sorted((x(0.5), x(value)))
    several = f" ({len(estimates)})" if len(estimates) > 1 else ""
    return [
        tag("text", f"{ROLE_WORDS[role]}{several}", class_="tick", x=left - 8, y=y + 9, text_anchor="end"),
        tag("rect", class_=f"length role-{role}", x=start, width=max(end - start, 0.5), y=y + 1, height=9),
        tag("line", class_=f"reach role-{role}", x1=x(low), x2=x(high), y1=y + 5.5, y2=y + 5.5),
        tag("text", f"{value:.2f} [{low:.2f}, {high:.2f}]", class_="tick num", x=right + 10, y=y + 9),
    ]
