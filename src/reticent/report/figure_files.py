# SPDX-License-Identifier: Apache-2.0
"""Every figure of a report as a file of its own: an SVG that needs no page, and its numbers as CSV."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from reticent.core.outputs import marked
from reticent.core.results import Results
from reticent.report.csv_files import csv_text
from reticent.report.figures import Figure, figures
from reticent.report.heading import model_name
from reticent.report.listed_files import FileList, encoded, write_listed
from reticent.report.svg import short, tag

LIST = FileList(name="figures.json", format="reticent.figures", title="list of figures", flag="export")
"""Names the figures: CSV has no room for a mark of its own."""
MARK = "a figure of a reticent report"
SVG = marked("figure", "<svg ", MARK)

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML file may hold, but an odd title can."""
MARGIN, RIGHT, LINE = 14.0, 30.0, 19.0
"""Room around a drawing (at the right for the last label of an axis), and between two lines of words."""


def export(folder: str | Path, results: Results, *, inputs: dict[str, str | Path | None] | None = None) -> list[Path]:
    """Write each figure as ``NAME.svg`` and ``NAME.csv``, and ``figures.json``, all or nothing; gives the SVGs' paths.

    Args:
        folder: is made if it is not there.
        results: whose figures.
        inputs: what must not be written over, by what it is.

    Raises:
        BadInput: the folder is a file, or one of these names is there and is not what this wrote.
        Unusable: it cannot be written to.
    """
    folder = Path(folder)
    drawings = figures(results)
    texts = {f"{figure.name}.svg": encoded(standalone(figure, model_name(results))) for figure in drawings}
    texts |= {f"{figure.name}.csv": encoded(table(figure)) for figure in drawings}
    about = {"figures": [{"name": figure.name, "title": figure.title} for figure in drawings]}
    write_listed(folder, texts, results, by=LIST, about=about, kinds={".svg": SVG}, inputs=inputs)
    return [folder / name for name in texts if name.endswith(".svg")]


def standalone(figure: Figure, model: str) -> str:
    """The drawing with its title, key and light colours in it, as a file that any viewer of SVG shows."""
    drawing = str(figure.drawing)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)
    assert box is not None
    width, height = max(float(box[1]), 300.0), float(box[2])
    head, end, inner = drawing[drawing.index(">") + 1 : drawing.rindex("</svg>")].partition("</desc>")
    names = re.search(r'aria-labelledby="([^"]*)"', drawing)
    key, used = _key(figure, top=height + LINE, width=width)
    top = 2 * LINE + MARGIN
    full = (width + MARGIN + RIGHT, top + height + used + MARGIN)
    parts = [
        Markup("<!-- {} -->\n").format(MARK),
        Markup(head + end + "\n"),  # noqa: S704 - our own drawing
        Markup("<style>{}</style>\n").format(Markup(_style())),  # noqa: S704 - our own style sheet
        tag("rect", x=-MARGIN, y=-top, width=full[0], height=full[1], fill="#ffffff"),
        Markup(inner),  # noqa: S704 - our own drawing
        tag("text", figure.title, class_="heading", x=0, y=-top + LINE + 2),
        tag("text", model, class_="tick", x=0, y=-top + 2 * LINE),
        *key,
    ]
    root = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="{} {} {} {}" width="{}" height="{}" role="img" '
        'aria-labelledby="{}">{}</svg>\n'
    )
    ends = (short(-MARGIN), short(-top), short(full[0]), short(full[1]), short(full[0]), short(full[1]))
    text = str(root.format(*ends, names[1] if names else "", Markup("").join(parts)))
    return NO_XML.sub("\ufffd", text)


def table(figure: Figure) -> str:
    """The figure's numbers as CSV with a header, full digits. Words that a spreadsheet would compute are quoted."""
    return csv_text(figure.columns, figure.rows)


def _key(figure: Figure, *, top: float, width: float) -> tuple[list[Markup], float]:
    """The meaning of the colours, in rows below the drawing, and the height of these rows."""
    if not figure.key:
        return [], 0.0
    entries = [(key.classes, f"{key.words} {key.number}".rstrip()) for key in figure.key]
    wide = max(len(words) for _, words in entries) * 6.6 + 44
    across = max(int((width + RIGHT) // wide), 1)
    parts = []
    for i, (classes, words) in enumerate(entries):
        x, y = i % across * wide, top + i // across * LINE
        if classes.startswith("area"):
            parts.append(tag("rect", class_=classes, x=x, y=y - 9, width=24, height=10))
        else:
            parts.append(tag("path", class_=classes, d=f"M{short(x)} {short(y - 4)}h24"))
        parts.append(tag("text", words, class_="tick strong", x=x + 31, y=y))
    return parts, LINE * (1 + (len(figure.key) - 1) // across) + 4


@cache
def _style() -> str:
    """The rules of figures with light colours put in, since few viewers but browsers know variables."""
    folder = files("reticent.report").joinpath("templates")
    page = folder.joinpath("style.css").read_text(encoding="utf-8")
    light = page[: page.index("@media")]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", light))
    rules = folder.joinpath("figures.css").read_text(encoding="utf-8")
    rules = re.sub(r"var\(--([a-z0-9-]+)\)", lambda name: colours[name[1]], rules)
    rules = re.sub(
        r"fill: color-mix\(in srgb, (#[0-9a-f]{6}) (\d+)%, transparent\)", r"fill: \1; fill-opacity: .\2", rules
    )
    shown = "".join(f".line.c{i} {{ stroke: {colours[f's{i}']}; stroke-width: 1.8; opacity: 1; }}\n" for i in range(6))
    sans = "svg { font-family: system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif; }"
    return f"{sans}\n{rules}{shown}.heading {{ font-size: 14px; font-weight: 600; }}\n"
