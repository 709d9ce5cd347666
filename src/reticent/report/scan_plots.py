# SPDX-License-Identifier: Apache-2.0
"""The strip plot of a scan: a scanner's score of the suspect on the line of its clean models, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from reticent.core.scan import ScanOutcome
from reticent.core.scan_words import NOTHING
from reticent.report.svg import Scale, frame, short, tag, x_axis

WIDTH, LEFT, RIGHT, MIDDLE, BOTTOM = 440.0, 16.0, 424.0, 52.0, 84.0
LAYERS, STEP = 5, 7.0
"""Clean scores that lie close to each other are stacked, up to so many, by so many pixels."""


def strip(identity: str, outcome: ScanOutcome, level: float) -> Markup | None:
    """The scores of clean models as dots, the score that the level needs as a line, the suspect as a diamond; None
    where there is nothing to compare."""
    if not outcome.clean_scores or outcome.score is None:
        return None
    clean, score = sorted(outcome.clean_scores), outcome.score
    low, high = min(clean[0], score), max(clean[-1], score)
    room = max(high - low, 0.02 * abs(high), 1e-9) * 0.08
    x = Scale(low=low - room, high=high + room, start=LEFT, end=RIGHT, most=6)
    needed = score_at(clean, level)
    parts: list[Markup] = [*x_axis(x, 14, BOTTOM, "score, higher is worse", lambda value: f"{value:.3g}")]
    if needed is not None:
        at = x(needed)
        parts.append(tag("rect", class_="over", x=at, width=max(RIGHT - at, 0), y=14, height=BOTTOM - 14))
        parts.append(tag("line", class_="stop", x1=at, x2=at, y1=14, y2=BOTTOM))
    parts += [tag("circle", class_="clean", cx=place, cy=MIDDLE + aside, r=3.4) for place, aside in _spread(x, clean)]
    raised = outcome.word != NOTHING
    at = x(score)
    parts.append(tag("path", class_=f"suspect{' raised' if raised else ''}", d=_diamond(at, MIDDLE)))
    left = at > (LEFT + RIGHT) / 2
    label = {"x": at + (-10 if left else 10), "y": 28, "text_anchor": "end" if left else "start"}
    parts.append(tag("text", f"this model: {score:.3g}", class_="tick strong halo", **label))
    reach = "" if needed is None else f" A score above {needed:.3g} would be below the level by itself."
    words = (
        f"The model scores {score:.3g}; {len(clean)} clean models score from {clean[0]:.3g} to {clean[-1]:.3g}.{reach}"
    )
    return frame(identity, WIDTH, BOTTOM + 44, outcome.title, words, *parts)


def score_at(clean: Sequence[float], level: float) -> float | None:
    """The score of clean models that a suspect must exceed for a p-value of at most ``level`` by itself; None where so
    few cannot give one.

    >>> score_at([1.0, 2.0, 3.0], 0.5), score_at([1.0, 2.0, 3.0], 0.05)
    (2.0, None)
    """
    above = math.floor(level * (len(clean) + 1) + 1e-9) - 1
    return None if above < 0 else sorted(clean, reverse=True)[min(above, len(clean) - 1)]


def _spread(x: Scale, clean: Sequence[float]) -> list[tuple[float, float]]:
    """Places of the dots: those that would cover each other lie above and below the line."""
    places: list[tuple[float, float]] = []
    last, layer = -math.inf, 0
    for score in clean:
        at = x(score)
        layer = layer + 1 if at - last < STEP else 0
        last = at if layer == 0 else last
        turn = layer % LAYERS
        places.append((at, STEP * ((turn + 1) // 2) * (1 if turn % 2 else -1)))
    return places


def _diamond(x: float, y: float) -> str:
    return f"M{short(x)} {short(y - 8)}l8 8l-8 8l-8 -8Z"


def swatch(kind: str) -> Markup:
    """A mark of the key."""
    mark = {
        "clean": tag("circle", class_="clean", cx=13, cy=9, r=3.4),
        "suspect": tag("path", class_="suspect", d="M13 2l7 7l-7 7l-7 -7Z"),
        "level": tag("line", class_="stop", x1=13, x2=13, y1=1, y2=17),
    }[kind]
    return tag("svg", mark, class_="swatch", viewBox="0 0 26 18", aria_hidden="true")
