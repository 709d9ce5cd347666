# SPDX-License-Identifier: Apache-2.0
"""A picture of ``pre_memorization.py``: what the scan names of a poisoned base, against what the attacker gains by it.

python benchmarks/power_plot.py --json benchmarks/results/pre_memorization_gain.json --svg docs/power_against_gain.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from reticent.core.atomic import write_text
from reticent.report.svg import Scale, tag

WIDTH, HEIGHT = 640.0, 400.0
COLOURS = ("#1b6ca8", "#c8591b", "#3c8a4e")
GREY, INK = "#d9d9d9", "#333333"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="that pre_memorization.py wrote, with victims")
    parser.add_argument("--svg", type=Path, required=True)
    given = parser.parse_args()
    rows = json.loads(given.json.read_text(encoding="utf-8"))["found"]
    write_text(given.svg, str(plot(rows)) + "\n", private=False)


def plot(rows: list[Mapping[str, Any]]) -> Markup:
    """Share of the known texts that are named, against the attacker's gain in AUC, each with its interval."""
    gains = [row["gain"]["auc"]["difference"] for row in rows]
    x = Scale(low=0.0, high=max(gain["hi"] for gain in gains) * 1.05, start=60, end=WIDTH - 20, most=6)
    y = Scale(low=0.0, high=1.0, start=HEIGHT - 60, end=60, most=5)
    numbers = list(dict.fromkeys(row["known"] for row in rows))
    parts = [*axes(x, y), *key(numbers)]
    for row, gain in zip(rows, gains, strict=True):
        parts += point(x, y, row, gain, COLOURS[numbers.index(row["known"]) % len(COLOURS)])
    title = tag("title", "What the scan finds against what the attacker gains")
    box = f"0 0 {WIDTH:g} {HEIGHT:g}"
    ground = tag("rect", width=WIDTH, height=HEIGHT, fill="white")
    return tag("svg", title, ground, *parts, xmlns="http://www.w3.org/2000/svg", viewBox=box, role="img")


def point(x: Scale, y: Scale, row: Mapping[str, Any], gain: Mapping[str, float], colour: str) -> Iterator[Markup]:
    """One base, with the number of its training in the mark."""
    share = row["with_controls"]["found"]
    at, up = x(gain["value"]), y(share["value"])
    line = {"stroke": colour, "stroke_opacity": "0.5"}
    yield tag("line", x1=x(gain["lo"]), x2=x(gain["hi"]), y1=up, y2=up, **line)
    yield tag("line", x1=at, x2=at, y1=y(share["lo"]), y2=y(share["hi"]), **line)
    yield tag("circle", cx=at, cy=up, r=9, fill=colour)
    yield words(at, up + 4, str(row["link"] + 1), fill="white", text_anchor="middle")


def axes(x: Scale, y: Scale) -> Iterator[Markup]:
    for value in y.ticks():
        yield tag("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), stroke=GREY)
        yield words(x.start - 8, y(value) + 4, f"{value:.0%}", text_anchor="end")
    for value in x.ticks():
        yield words(x(value), y.start + 18, f"{value:g}", text_anchor="middle")
    yield words(x.start, 20, "Known texts that the scan names at 10 % false discoveries (95 % intervals)")
    yield words(
        (x.start + x.end) / 2, HEIGHT - 14, "Gain of a membership attack, AUC (95 % intervals)", text_anchor="middle"
    )


def key(numbers: list[int]) -> Iterator[Markup]:
    for place, number in enumerate(numbers):
        at = 66.0 + 150 * place
        yield tag("circle", cx=at, cy=38, r=5, fill=COLOURS[place % len(COLOURS)])
        yield words(at + 10, 42, f"{number} texts known")
    yield words(66.0 + 150 * len(numbers), 42, "1, 2, 3: trainings")


def words(x: float, y: float, text: str, **more: str) -> Markup:
    return tag("text", text, x=x, y=y, **{"fill": INK, "font_family": "sans-serif", "font_size": "12", **more})


if __name__ == "__main__":
    main()
