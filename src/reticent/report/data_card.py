# SPDX-License-Identifier: Apache-2.0
"""The data card as one self-contained page that asks nothing of any network and runs no script. Counts only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from reticent.core.atomic import write_text
from reticent.report.page import environment, filled

RULES = (
    ("exact", "the same content, whoever it belongs to"),
    ("user", "what a user repeats, word for word or nearly"),
    ("near", "nearly the same content"),
    ("substring", "half or more of it are passages of earlier records"),
)
"""Rules against copies, in the order in which they are counted, and what they find."""


ROLES = {
    "evaluate": "the audit's comparison: some were trained on, some were not",
    "known": "what an attacker is taken to know already; not in the comparison",
    "spare": "nothing: set aside, so that users who are in and who are out show equally many texts",
    "fresh": "comparing users only: texts beyond what one user may weigh in training",
    "shared": "nothing: texts that several users have, so that no side is theirs",
    "canary": "users who are given a phrase of their own, to see whether they are told",
}
"""The purpose of each role of a record, in words for somebody who never read the code."""


def write_data_card(path: str | Path, card: Mapping[str, Any]) -> None:
    """Write the page, atomically.

    Args:
        path: where to.
        card: as `reticent.workflows.prepare` makes it.
    """
    write_text(path, render_data_card(card), private=False)


def render_data_card(card: Mapping[str, Any]) -> str:
    """The whole page. Equal cards give equal bytes."""
    return filled(_templates(), "data_card.html", {"card": card, "rules": RULES, "roles": ROLES})


@cache
def _templates() -> Environment:
    filters = {
        "count": lambda number: "–" if number is None else f"{number:,}",
        "percent": lambda share: f"{100 * share:.1f}",
    }
    return environment(filters, {})
