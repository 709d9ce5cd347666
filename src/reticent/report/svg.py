# SPDX-License-Identifier: Apache-2.0
"""The few SVG parts that the plots share: tags, axes, a frame that says in words what it shows.

Colours come from the page's style sheet by class, so that one drawing serves light, dark and print; nothing carries
a ``style`` attribute, which the page's content security policy forbids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

COLOURS, DASHES = 6, 3
"""How many series colours and line patterns the style sheet has: together they tell 18 series apart."""


def tag(name: str, *children: str, **attributes: str | float) -> Markup:
    """One element; children that are no Markup are escaped, and so is every attribute.

    ``class_`` becomes ``class``, other underscores hyphens; numbers are rounded to a tenth.
    """
    pairs = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value if isinstance(value, str) else short(value))
        for key, value in attributes.items()
    )
    inner = Markup("").join(children)
    return Markup("<{}{}>{}</{}>").format(name, pairs, inner, name)


def short(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")


def frame(identity: str, width: float, height: float, title: str, description: str, *children: str) -> Markup:
    """The whole drawing, with a name and a description for those who cannot see it."""
    return tag(
        "svg",
        tag("title", title, id=f"{identity}-title"),
        tag("desc", description, id=f"{identity}-desc"),
        *children,
        viewBox=f"0 0 {short(width)} {short(height)}",
        role="img",
        aria_labelledby=f"{identity}-title {identity}-desc",
    )


def called(drawing: Markup, subject: str) -> Markup:
    """The drawing with what it is about in its title, so that it can be told by itself."""
    title, end, rest = str(drawing).partition("</title>")
    return Markup(title) + Markup(" · {}").format(subject) + Markup(end + rest)  # noqa: S704 - our own drawing


def series(index: int) -> str:
    """Classes of the colour and the pattern of the ``index``-th series."""
    return f"c{index % COLOURS} d{index // COLOURS % DASHES}"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps data from ``[low, high]`` to pixels from ``start`` to ``end``; what lies outside is drawn at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    most: int = 6
    """About how many steps the ticks may make on a linear scale."""

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        place = ((math.log10(value) if self.log else value) - low) / (high - low)
        return self.start + place * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Decades on a log scale, else round steps."""
        if self.log:
            decades = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**decade for decade in decades]
        rough = (self.high - self.low) / self.most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def x_axis(scale: Scale, top: float, bottom: float, label: str, text: Callable[[float], str]) -> list[Markup]:
    """Vertical grid lines, tick labels below and the axis' name."""
    parts = []
    for value in scale.ticks():
        x = scale(value)
        parts.append(tag("line", class_="grid", x1=x, x2=x, y1=top, y2=bottom))
        parts.append(tag("text", text(value), class_="tick", x=x, y=bottom + 17, text_anchor="middle"))
    middle = (scale.start + scale.end) / 2
    return [*parts, tag("text", label, class_="axis", x=middle, y=bottom + 36, text_anchor="middle")]


def y_axis(scale: Scale, left: float, right: float, label: str, text: Callable[[float], str]) -> list[Markup]:
    """Horizontal grid lines, tick labels at the left and the axis' name above them."""
    parts = []
    for value in scale.ticks():
        y = scale(value)
        parts.append(tag("line", class_="grid", x1=left, x2=right, y1=y, y2=y))
        parts.append(tag("text", text(value), class_="tick", x=left - 7, y=y + 4, text_anchor="end"))
    return [*parts, tag("text", label, class_="axis", x=2, y=scale.end - 12)]


def steps(xs: Sequence[float], ys: Sequence[float]) -> str:
    """Path data of a staircase through the points: across first, then up."""
    return f"M{short(xs[0])} {short(ys[0])}" + "".join(
        f"H{short(x)}V{short(y)}" for x, y in zip(xs[1:], ys[1:], strict=True)
    )
