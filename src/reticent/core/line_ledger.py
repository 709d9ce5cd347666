# SPDX-License-Identifier: Apache-2.0
"""Ledgers of one JSON object a line, on the disk before what they tell of leaves the process.

A crash can leave a last line without its end. Nothing had left by then, so the line is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from reticent.core.errors import BadInput

T = TypeVar("T")


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


def begin_or_go_on(path: Path, header: Mapping[str, Any], entry: Callable[..., T], *, name: str, of: str) -> list[T]:
    """The entries that an earlier process left behind the line that says what a ledger is of; that line is put into a
    new one.

    Args:
        path: of the ledger; its folder exists.
        header: what it is of, as JSON has it.
        entry: makes an entry of the fields of a line.
        name: of such a ledger, for messages: "ledger of rounds".
        of: what ``header`` tells apart, for messages: "federation".

    Raises:
        BadInput: the file is no such ledger, or of something else.

    Examples:
        >>> begin_or_go_on(Path("ledger.jsonl"), {"key": "a"}, dict, name="ledger of steps", of="mechanism")
        []
        >>> append_line(Path("ledger.jsonl"), {"step": 0})
        >>> begin_or_go_on(Path("ledger.jsonl"), {"key": "a"}, dict, name="ledger of steps", of="mechanism")
        [{'step': 0}]
    """
    try:
        lines = whole_lines(path)
        entries = [entry(**line) for line in lines[1:]]
    except (ValueError, TypeError) as error:
        raise BadInput(str(path), f"is no {name}", "Start over in another folder (--out).") from error
    if not lines:
        append_line(path, header)
    elif lines[0] != json.loads(json.dumps(header)):
        raise BadInput(
            str(path),
            f"is the {name} of another {of}, or of another key",
            "Give the settings that it was begun with, or start over in another folder (--out).",
        )
    return entries


def refuse_gaps(path: Path, numbers: Sequence[int], *, most: int | None = None) -> None:
    """Refuse a ledger whose entries are not numbered 0, 1, 2, … without a gap.

    Args:
        path: of the ledger, for the message.
        numbers: of the entries, in order.
        most: there can be; None for any number.

    Raises:
        BadInput: they are not.

    Examples:
        >>> refuse_gaps(Path("ledger.jsonl"), [0, 1, 2])
        >>> refuse_gaps(Path("ledger.jsonl"), [0, 2])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: ledger.jsonl: has entries twice or not at all. Start over ...
    """
    if list(numbers) != list(range(len(numbers))) or (most is not None and len(numbers) > most):
        raise BadInput(str(path), "has entries twice or not at all", "Start over in another folder (--out).")


def _flush_folder(folder: Path) -> None:
    """Put the name of a new file on the disk, too; elsewhere than on POSIX there is no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
