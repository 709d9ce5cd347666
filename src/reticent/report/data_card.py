# SPDX-License-Identifier: Apache-2.0
"""The data card as one self-contained page that asks nothing of any network and runs no script. Counts only."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reticent.core.atomic import write_text

RULES = (
    ("exact", "the same content, whoever it belongs to"),
    ("user", "what a user repeats, word for word or nearly"),
    ("near", "nearly the same content"),
    ("substring", "half or more of it are passages of earlier records"),
)
"""Rules against copies, in the order in which they are counted, and what they find."""


def write_data_card(path: str | Path, card: Mapping[str, Any]) -> None:
    """Write the page, atomically.

    Args:
        path: where to.
        card: as `reticent.prepare` makes it.
    """
    write_text(path, render_data_card(card))


def render_data_card(card: Mapping[str, Any]) -> str:
    """The whole page. Equal cards give equal bytes."""
    style = _environment().get_template("style.css").render(indices=range(0))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = _environment().get_template("data_card.html")
    return page.render(style=Markup(style), style_hash=digest, card=card, rules=RULES)  # noqa: S704 - our own style sheet


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reticent.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters |= {
        "count": lambda number: "–" if number is None else f"{number:,}",
        "percent": lambda share: f"{100 * share:.1f}",
        "day": lambda created: created[:16].replace("T", " "),
        "spaced": lambda text: text.replace("_", " "),
    }
    environment.globals |= {"is_mapping": lambda value: isinstance(value, Mapping)}
    return environment
