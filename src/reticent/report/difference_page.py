# SPDX-License-Identifier: Apache-2.0
"""Two audits side by side as a page, a file and lines for the console."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from rich.console import Console
from rich.text import Text

from reticent.core.atomic import write_text
from reticent.core.codec import encode
from reticent.core.difference import Change, Difference
from reticent.core.errors import Unusable
from reticent.core.outputs import marked, refuse_empty, refuse_foreign
from reticent.core.progress import console as person
from reticent.report import number_format as numbers
from reticent.report import summary
from reticent.report.page import environment, filled
from reticent.report.svg import Scale, called, frame, tag

FORMAT, VERSION = "reticent.difference", 1
PAGE = marked("page", '<meta name="generator" content="reticent difference">')
DATA = marked("file of differences", f'"format": "{FORMAT}"')
LEVELS = {"record": "Records", "user": "Users", "canary": "Planted secrets"}
WORDS = {"more": "more", "less": "less", "same": "not certain"}
"""The words for a change; where nothing is certain they never say "the same"."""
SECTIONS = (("answer", "Answer"), ("changes", "Changes"), ("left-out", "Not compared"), ("audits", "The two audits"))
WIDTH, ROW = 460.0, 22.0


def write_difference(folder: str | Path, difference: Difference) -> Path:
    """Write ``diff.json`` and ``diff.html`` into ``folder``; gives the page's path.

    Raises:
        BadInput: the folder is not named or is a file, or one of the two is there and is not what this wrote.
    """
    page, data = places(folder)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(
            str(folder)[:200], f"cannot be used ({error.strerror})", "Choose another place (--out)."
        ) from error
    content = {"format": FORMAT, "schema_version": VERSION, "headline": difference.headline, **encode(difference)}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(data, text + "\n", private=False)
    write_text(page, render_difference(difference), private=False)
    return page


def places(folder: str | Path) -> tuple[Path, Path]:
    """Where page and data go in ``folder``.

    Raises:
        BadInput: see `write_difference`.
    """
    refuse_empty("out", folder)
    page, data = Path(folder) / "diff.html", Path(folder) / "diff.json"
    refuse_foreign(page, PAGE)
    refuse_foreign(data, DATA)
    return page, data


def render_difference(difference: Difference) -> str:
    """The whole page. Equal differences give equal bytes."""
    names = [_name(side.about, side.title) for side in (difference.before, difference.after)]
    levels = [
        (name, LEVELS[name], changes, called(drawing(f"change-{name}", changes), " → ".join(names)))
        for name in LEVELS
        if (changes := [change for change in difference.changes if change.level == name])
    ]
    content = {"difference": difference, "levels": levels, "sections": SECTIONS, "words": WORDS, "names": names}
    return filled(_templates(), "difference.html", content)


def _name(about: Mapping[str, Any], title: str) -> str:
    """The audited model, where the results name it; two audits of one data set have one title."""
    models = about.get("models")
    target = models.get("target") if isinstance(models, Mapping) else None
    return target if isinstance(target, str) and target else title


def print_difference(difference: Difference, *, console: Console = person) -> None:
    """Print the answer and every change, the certain ones first. Nothing is read as markup."""
    console.print()
    style = "bold red" if difference.more else "bold green" if difference.less else "bold"
    console.print(Text(difference.headline, style=style))
    console.print(Text(f"  before: {difference.before.title}: {difference.before.headline}"))
    console.print(Text(f"  after:  {difference.after.title}: {difference.after.headline}"))
    for change in sorted(difference.changes, key=lambda change: change.direction == "same"):
        shown = numbers.show(change.change, change.metric)
        before, after = (numbers.show(estimate, change.metric).value for estimate in (change.before, change.after))
        start = f"  {change.level}, {change.attack}, {numbers.metric_name(change.metric)}: {before} → {after}, change "
        line = f"{start}{shown.value} {shown.interval} {shown.confidence}"
        console.print(Text(line, style={"more": "red", "less": "green", "same": "dim"}[change.direction]))
    for reason in difference.left_out:
        console.print(Text(f"  not compared: {reason}", style="dim"))


def drawing(identity: str, changes: list[Change]) -> Markup:
    """Every AUC's change (of secrets: bits) with its interval, one row each, and the line of no change."""
    rows = [change for change in changes if change.metric in ("auc", "exposure_bits")]
    unit = "bits" if rows and rows[0].metric == "exposure_bits" else "AUC"
    most = max([0.05, *(abs(end) for row in rows for end in (row.change.lo, row.change.hi) if math.isfinite(end))])
    x = Scale(low=-most * 1.05, high=most * 1.05, start=140, end=330, most=4)
    top, bottom = 30.0, 30.0 + ROW * len(rows)
    parts = [tag("line", class_="chance", x1=x(0), x2=x(0), y1=top - 6, y2=bottom)]
    parts.append(tag("text", "no change", class_="tick", x=x(0), y=top - 11, text_anchor="middle"))
    parts.append(tag("text", "← less leaks", class_="tick", x=x(-most), y=bottom + 16, text_anchor="start"))
    parts.append(tag("text", "more leaks →", class_="tick", x=x(most), y=bottom + 16, text_anchor="end"))
    for place, row in enumerate(rows):
        y = top + ROW * (place + 0.5)
        away = "near" if row.direction == "same" else "away"
        shown = numbers.show(row.change, row.metric)
        lo, hi = max(row.change.lo, -most), min(row.change.hi, most)
        parts.append(tag("text", row.attack[:20], class_="tick strong", x=132, y=y + 4, text_anchor="end"))
        parts.append(tag("line", class_=f"whisker {away}", x1=x(lo), x2=x(hi), y1=y, y2=y))
        parts.append(tag("circle", class_=f"mark {away}", cx=x(row.change.value), cy=y, r=4))
        parts.append(tag("text", f"{shown.value} {shown.interval}", class_="tick num", x=338, y=y + 4))
    words = "; ".join(f"{row.attack} {numbers.show(row.change, row.metric)}" for row in rows)
    return frame(identity, WIDTH, bottom + 26, f"Change in {unit}, with intervals", f"{words}.", *parts)


@cache
def _templates() -> Environment:
    return environment(
        {"metric_name": numbers.metric_name, "status": lambda status: summary.STATUS_WORDS[status]},
        {"show": numbers.show},
    )
