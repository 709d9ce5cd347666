# SPDX-License-Identifier: Apache-2.0
"""Ledgers of one JSON object a line, on the disk before what they tell of leaves the process.

A crash can leave a last line without its end. Nothing had left by then, so the line is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Put one line at the end of a ledger, and on the disk; a new file is for its owner only.

    Args:
        path: of the ledger; its folder exists.
        line: values that JSON has.

    Examples:
        >>> append_line(Path("ledger.jsonl"), {"step": 0})
        >>> whole_lines(Path("ledger.jsonl"))
        [{'step': 0}]
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(json.dumps(line, sort_keys=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        _flush_folder(path.parent)


def whole_lines(path: Path) -> list[Any]:
    """The lines of a ledger; one that was not finished is cut off, and a file that holds no other is taken away.

    Raises:
        ValueError: a line is no JSON.

    Examples:
        >>> _ = Path("ledger.jsonl").write_text('{"step": 0}\\n{"st')
        >>> whole_lines(Path("ledger.jsonl")), Path("ledger.jsonl").read_text()
        ([{'step': 0}], '{"step": 0}\\n')
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        path.unlink()
        return []
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
            os.fsync(file.fileno())
    return [json.loads(line) for line in whole.splitlines()]


def _flush_folder(folder: Path) -> None:
    """Put the name of a new file on the disk, too; elsewhere than on POSIX there is no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
