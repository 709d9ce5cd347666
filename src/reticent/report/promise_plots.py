# SPDX-License-Identifier: Apache-2.0
"""Drawings of what a promise allows an attack to find, beside what an attack found, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from reticent.core.results import Curve
from reticent.report.number_format import percent_up
from reticent.report.plots import WIDTH, percent
from reticent.report.svg import Scale, frame, short, steps, tag, x_axis, y_axis

LOWEST = 1e-3
POINTS = 61


def allowed(identity: str, roc: Sequence[tuple[float, float]], measured: Curve | None) -> Markup:
    """Most true positives at each false positive rate, dashed, and the attack's curve, solid; log-log axes.

    Args:
        identity: of the drawing on its page.
        roc: corners of what the promise allows, from false positive rate 0 to 1.
        measured: of the attack whose AUC is held against the promise; None: none was.
    """
    x = Scale(low=LOWEST, high=1, start=52, end=428, log=True)
    y = Scale(low=LOWEST, high=1, start=280, end=34, log=True)
    fprs, tprs = zip(*roc, strict=True)
    places = np.geomspace(LOWEST, 1, POINTS)
    most = np.interp(places, fprs, tprs)
    path = "M" + "L".join(f"{short(x(fpr))} {short(y(tpr))}" for fpr, tpr in zip(places, most, strict=True))
    parts = [
        *x_axis(x, 34, 280, "false positive rate (held-out called members)", percent),
        *y_axis(y, 52, 428, "true positive rate (members found)", percent),
        tag("line", class_="chance", x1=52, y1=280, x2=428, y2=34),
    ]
    words = "; ".join(f"at {percent(fpr)} {percent_up(float(np.interp(fpr, fprs, tprs)))} %" for fpr in (0.01, 0.1))
    description = f"Most true positives that the promise allows: {words}."
    if measured is not None:
        visible = max(sum(fpr <= LOWEST for fpr in measured.fpr) - 1, 0)
        line = steps([x(fpr) for fpr in measured.fpr[visible:]], [y(tpr) for tpr in measured.tpr[visible:]])
        parts.append(tag("path", class_="line-swatch c0 d0", d=line))
        description += f" Measured: {measured.attack}."
    parts.append(tag("path", class_="allowed", d=path))
    return frame(identity, WIDTH, 322, "What the promise allows and what was found", description, *parts)
