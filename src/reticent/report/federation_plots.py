# SPDX-License-Identifier: Apache-2.0
"""The plots of a federation, as inline SVG: a number by round, and norms of updates against the norm they are clipped
to."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from reticent.core.federation import FederationRound
from reticent.report.svg import Scale, frame, series, short, tag, x_axis, y_axis

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 440.0, 52.0, 428.0, 34.0, 236.0
_FIELDS = {
    "epsilon": "ε spent, per client",  # by itself in files that have no more; see ``label``
    "held_out_loss": "held-out loss, nats a token",
    "median_norm": "norm of updates",
    "largest_norm": "norm of updates",
    "clip": "norm of updates",
}


def by_round(
    identity: str,
    rounds: Sequence[FederationRound],
    names: Sequence[str],
    *,
    title: str,
    before: float | None = None,
    label: str = "",
) -> Markup | None:
    """Lines of fields of the rounds; None where none of them was measured.

    Args:
        identity: of the drawing in the page.
        rounds: of the federation.
        names: fields of `FederationRound`, which share an axis.
        title: for those who cannot see it.
        label: of the upward axis; left out, the name of the first field.
        before: of the first field, before any round; a point at round 0. None where it is not known.
    """
    lines = {name: [(row.number, getattr(row, name)) for row in rounds] for name in names}
    lines = {name: [(at, value) for at, value in line if value is not None] for name, line in lines.items()}
    lines = {name: line for name, line in lines.items() if line}
    if before is not None and names[0] in lines:
        lines[names[0]].insert(0, (0, before))
    if not lines:
        return None
    values = [value for line in lines.values() for _, value in line]
    low, high = min(values), max(values)
    room = max(high - low, 0.02 * abs(high), 1e-9) * 0.15
    x = Scale(low=0, high=max(row.number for row in rounds) * 1.03, start=LEFT, end=RIGHT, most=6)
    y = Scale(low=max(0.0, low - room), high=high + room, start=BOTTOM, end=TOP, most=5)
    parts = y_axis(y, LEFT, RIGHT, label or _FIELDS[next(iter(lines))], lambda value: f"{value:.4g}")
    for number, line in enumerate(lines.values()):
        places = [(x(at), y(value)) for at, value in line]
        path = "L".join(f"{short(across)} {short(up)}" for across, up in places)
        parts.append(tag("path", class_=f"curve {series(number)}", d=f"M{path}"))
        parts += [tag("circle", class_=f"dot {series(number)}", cx=across, cy=up, r=2.6) for across, up in places]
    parts += x_axis(x, BOTTOM, BOTTOM, "round", lambda value: f"{value:g}")
    words = " ".join(
        f"{name.replace('_', ' ')}: {line[0][1]:.4g} to {line[-1][1]:.4g}." for name, line in lines.items()
    )
    return frame(identity, WIDTH, BOTTOM + 44, title, words, *parts)
