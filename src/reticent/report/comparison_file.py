# SPDX-License-Identifier: Apache-2.0
"""``comparison.json``: a Comparison as a versioned JSON file with a shipped schema. No text of the data is in it.

An estimate is an object with the fields of `Estimate`; an end of an interval without a bound is ``null``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.codec import decode, encode
from reticent.core.comparison import Comparison
from reticent.core.errors import BadInput

FORMAT = "reticent.comparison"
COMPARISON_VERSION = 5
"""``schema_version`` of the file. Raise whenever a field is added, removed or changes its meaning."""

READABLE = (2, 3, 4, COMPARISON_VERSION)
"""A setting of version 2 has no ``schedule``: it is linear, which is the default. Up to version 3 the TPR at FPR 0.1
has the names of `OLDER_NAMES`. Up to version 4 no model was audited."""

OLDER_NAMES = {"recall": "tpr_at_10pct_fpr", "each_recall": "each_tpr_at_10pct_fpr"}
"""Today's name of a field, by that of older versions."""

RENAMED_IN = ("points", "pairs")
"""Where those fields lie: in entries of these lists, and in ``settings[].matched``."""


@cache
def comparison_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``comparison.json``, as shipped with the package."""
    return json.loads(files("reticent.report").joinpath("comparison.schema.json").read_text(encoding="utf-8"))


def write_comparison(path: str | Path, comparison: Comparison) -> None:
    """Write ``comparison`` to ``path``, atomically.

    Raises:
        ValueError: a number that must be finite is not (a bug of the comparison).
        BadInput: the folder cannot be written to, or the disk is full.
    """
    content = {"format": FORMAT, "schema_version": COMPARISON_VERSION, **encode(comparison)}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", private=False)


def read_comparison(path: str | Path) -> Comparison:
    """Read what `write_comparison` wrote: an equal Comparison.

    Raises:
        BadInput: the file is missing, broken, another tool's, or of another version.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(str(path), "is missing", "Run reticent compare.") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(str(path), f"is not valid JSON ({error})", "Run reticent compare again.") from error
    version = content.pop("schema_version", None) if isinstance(content, dict) else None
    if version not in READABLE or content.pop("format", None) != FORMAT:
        newer = isinstance(version, int) and version > COMPARISON_VERSION
        raise BadInput(
            str(path),
            f"is no comparison of version {COMPARISON_VERSION}" + (f" but of version {version}" if newer else ""),
            "Install a newer reticent." if newer else "Run reticent compare again; what is trained stays trained.",
        )
    try:
        return decode(Comparison, content if version == COMPARISON_VERSION else _migrated(content))
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(str(path), f"is broken ({error})", "Run reticent compare again.") from error


def _migrated(content: dict[str, Any]) -> dict[str, Any]:
    """The content of an older file with today's names; what is broken stays so, for `decode` to say it."""
    entries = {name: [_renamed(entry) for entry in content[name]] for name in RENAMED_IN if _is_list(content.get(name))}
    if _is_list(content.get("settings")):
        entries["settings"] = [_with_matched(setting) for setting in content["settings"]]
    return content | entries


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _with_matched(setting: Any) -> Any:
    if not isinstance(setting, dict) or "matched" not in setting:
        return setting
    return setting | {"matched": _renamed(setting["matched"])}


def _renamed(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {OLDER_NAMES.get(name, name): value for name, value in entry.items()}
