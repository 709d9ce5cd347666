# SPDX-License-Identifier: Apache-2.0
"""One picture of synthetic texts: usefulness above, what an audit found below, both by the promised ε."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from markupsafe import Markup

from reticent.core.finding import Estimate
from reticent.core.text_utility import HALF, REAL, SYNTHETIC, UNTRAINED, TextUtility
from reticent.report.svg import Scale, frame, series, tag, y_axis

LEFT, LEAST, COLUMN, BESIDE = 56.0, 372.0, 132.0, 132.0
"""Where the axis begins, how wide it is at least, a column of it, and the room beside it for words."""
TOP, MIDDLE, FLOOR, BOTTOM = 34.0, 210.0, 262.0, 360.0
NAME = 18
LETTERS = 22
"""Of a line below a column."""


def utility_picture(identity: str, rows: Sequence[TextUtility]) -> Markup:
    """Held-out loss against the promise, with lines for no training and for real text; below, the largest AUC of an
    audit with its interval, and its bound on ε in words.

    Args:
        identity: unique on the page.
        rows: of `reticent.core.text_utility.UtilityResults`; synthetic texts stand from the smallest ε to no promise.
    """
    synthetic = sorted((row for row in rows if row.source == SYNTHETIC), key=_promised)
    lines = [(row, words) for row in rows for source, words in ((UNTRAINED, "no training"), (REAL, "real text"))
             if row.source == source]  # fmt: skip
    right = LEFT + max(LEAST, COLUMN * len(synthetic))
    labels = [_labels(row) for row in synthetic]
    halves = {row.name: row for row in rows if row.source == HALF}
    ends = [end for row in (*synthetic, *halves.values(), *(row for row, _ in lines)) for end in _span(row.loss)]
    room = max(max(ends) - min(ends), 0.01) * 0.08
    loss = Scale(low=min(ends) - room, high=max(ends) + room, start=MIDDLE, end=TOP, most=5)
    auc_ends = [end for row in synthetic if row.audit and row.audit.auc for end in _span(row.audit.auc)]
    auc = Scale(
        low=min([0.45, *auc_ends]), high=min(max([0.6, *auc_ends]) + 0.02, 1.0), start=BOTTOM, end=FLOOR, most=3
    )
    parts = [
        *y_axis(loss, LEFT, right, "loss on real held-out text (lower is more useful)", lambda value: f"{value:g}"),
        *y_axis(auc, LEFT, right, "AUC of the audit's best attack (lower leaks less)", lambda value: f"{value:g}"),
        tag("line", class_="chance", x1=LEFT, x2=right, y1=auc(0.5), y2=auc(0.5)),
    ]
    for row, words in lines:
        at = loss(row.loss.value)
        parts.append(tag("line", class_="ceiling", x1=LEFT, x2=right, y1=at, y2=at))
        parts.append(tag("text", words, class_="tick halo", x=right + 4, y=at + 4))
    for place, row in enumerate(synthetic):
        across = LEFT + (right - LEFT) * (place + 0.5) / len(synthetic)
        parts += _column(row, halves.get(row.name), across, place, loss, auc)
        parts += _below(labels[place], across)
    return frame(
        identity,
        right + BESIDE,
        BOTTOM + 24 + 16 * max(map(len, labels), default=1),
        "Usefulness, promise and audit of synthetic texts",
        " ".join(map(_words, synthetic)),
        *parts,
    )


def _column(
    row: TextUtility, half: TextUtility | None, across: float, place: int, loss: Scale, auc: Scale
) -> list[Markup]:
    colour, parts = series(place), []
    for estimate, at, scale in (
        (row.loss, across, loss),
        (None if half is None else half.loss, across + 9, loss),
        (row.audit.auc if row.audit else None, across, auc),
    ):
        if estimate is None:
            continue
        low, high = _span(estimate)
        parts.append(tag("line", class_=f"curve {colour} solid", x1=at, x2=at, y1=scale(low), y2=scale(high)))
        kind = "ring" if at != across else "dot"
        parts.append(tag("circle", class_=f"{kind} {colour}", cx=at, cy=scale(estimate.value), r=4))
    return parts


def _labels(row: TextUtility) -> list[str]:
    """Name, promise and what was found, in lines that are short enough for a column."""
    promise = "no promise" if row.promise is None else row.promise.sentence
    bound = "not audited" if row.audit is None else "no bound on ε"
    if row.audit is not None and row.audit.epsilon is not None:
        bound = f"found ε ≥ {row.audit.epsilon.value:.2f} {row.audit.epsilon.unit}"
    return [row.name[:NAME], *textwrap.wrap(promise, LETTERS), *textwrap.wrap(bound, LETTERS)]


def _below(lines: Sequence[str], across: float) -> list[Markup]:
    return [
        tag("text", text, class_="tick" if number else "tick strong", x=across, y=BOTTOM + 18 + 16 * number,
            text_anchor="middle")
        for number, text in enumerate(lines)
    ]  # fmt: skip


def _promised(row: TextUtility) -> tuple[float, str]:
    return (math.inf if row.promise is None else row.promise.epsilon, row.name)


def _span(estimate: Estimate) -> tuple[float, float]:
    ends = [end if math.isfinite(end) else estimate.value for end in (estimate.lo, estimate.hi)]
    return ends[0], ends[1]


def _words(row: TextUtility) -> str:
    promise = "no promise" if row.promise is None else row.promise.sentence
    audit = "not audited"
    if row.audit is not None:
        audit = "audited" if row.audit.auc is None else f"AUC {row.audit.auc.value:.2f}"
    return f"{row.name}: {promise}, loss {row.loss.value:.3f}, {audit}."
