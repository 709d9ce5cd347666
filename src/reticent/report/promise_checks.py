# SPDX-License-Identifier: Apache-2.0
"""The table of a self-check on the page of a run with a promise."""

from __future__ import annotations

from collections.abc import Sequence

from reticent.core.promise_check import PromiseCheck
from reticent.core.section import Column, Mark, Table


def checks_table(checks: Sequence[PromiseCheck], *, name: str, unknown: str) -> Table:
    """A row for each line of the self-check.

    Args:
        checks: lines.
        name: of the table.
        unknown: words for a line that neither held nor broke.

    >>> line = PromiseCheck(name="noise", bound="1.0", passed=None)
    >>> checks_table([line], name="checks", unknown="too little to tell").rows[0][2].text
    'too little to tell'
    """
    columns = (
        Column(name="name", label="Promise"),
        Column(name="bound", label="Has to be"),
        Column(name="passed", label="Outcome", kind="mark"),
    )
    words = {True: "held", False: "broken", None: unknown}
    rows = tuple(
        (check.name, check.bound, Mark(text=words[check.passed], raised=check.passed is False)) for check in checks
    )
    return Table(name=name, title="Self-check", columns=columns, rows=rows)
