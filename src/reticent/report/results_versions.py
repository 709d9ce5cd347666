# SPDX-License-Identifier: Apache-2.0
"""Older versions of ``results.json``, brought to the shape of today's when they are read.

=======  ==========================================================================================================
version  what it added, and what an older file gets for it
=======  ==========================================================================================================
2        ``promise``: null
3        ``extraction``: null
4        ``exposure[].fitted``: null
5        ``promise.together``: empty
6        ``tests``, ``alone``, ``p_value``, ``curves[].band``: empty or null
7        ``sections``: empty; ``extraction.rows[].control_group``: empty; ``extraction.rows[].randomized``: whether the
         group's name says that it was planted, which is what older versions went by
8        ``kinds``: those that version 7 knew, by the lines of ``not_tested``; empty where there are no such lines
=======  ==========================================================================================================

Fields that an older file lacks take the defaults of their classes (`reticent.core.codec.decode`), so only what is no
default is said here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reticent.report.scope import ELSEWHERE

RESULTS_VERSION = 8
"""``schema_version`` of the file. Raise whenever a field is removed, changes its meaning, or is added without a
default; an older file gets the default of one that has it."""


KINDS_OF_7 = (
    "Membership, per record",
    "Membership, per user",
    "Extraction",
    "Personal data",
    "Identifiers",
    "Planted secrets",
    "Planted users",
    "Bound on ε",
    "Privacy promise",
    "The inside of the model (white box)",
    "Attackers who only read what the model writes",
    "Poisoning and backdoors",
)
"""Kinds of attack that version 7 knew: ``not_tested`` began with a line for each that was not tried."""


def migrated(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file of any readable version as `reticent.core.codec.decode` takes it; ``content`` stays."""
    results = dict(content)
    if results["schema_version"] < 7:
        results["extraction"] = _with_coins(results.get("extraction"))
    if results["schema_version"] < 8:
        results["kinds"] = _kinds(results.get("not_tested"))
    return results | {"schema_version": RESULTS_VERSION}


def _kinds(not_tested: Any) -> list[dict[str, Any]]:
    if not isinstance(not_tested, list) or ELSEWHERE not in not_tested:
        return []
    lines = [str(line) for line in not_tested[: not_tested.index(ELSEWHERE)]]
    by_name = {line.partition(": ")[0]: line for line in lines}
    names = dict.fromkeys((*KINDS_OF_7, *by_name))
    return [{"name": name, "tried": name not in by_name, "line": by_name.get(name, "")} for name in names]


def _with_coins(extraction: Any) -> Any:
    if not isinstance(extraction, dict) or not isinstance(extraction.get("rows"), list):
        return extraction
    return extraction | {"rows": [_with_coin(row) for row in extraction["rows"]]}


def _with_coin(row: Any) -> Any:
    if not isinstance(row, dict):
        return row
    return {"randomized": str(row.get("group", "")).startswith("planted")} | row
