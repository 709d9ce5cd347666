# SPDX-License-Identifier: Apache-2.0
"""Why a row cannot become a record."""

from __future__ import annotations

from typing import Any


class BadField(Exception):
    """A row whose fields cannot become a record: why, and what to do. Never holds the text."""

    def __init__(self, why: str, fix: str) -> None:
        self.why, self.fix = why, fix
        super().__init__(why)


def checked(name: str, value: Any) -> str:
    """``value`` of the field ``name``, if it is text.

    Raises:
        BadField: it is no text, or cannot be written as UTF-8.
    """
    if not isinstance(value, str):
        what = "empty (null)" if value is None else f"a {type(value).__name__}, not text"
        raise BadField(f"field {name!r} is {what}", "Give text in quotes, or skip such rows (--on_bad_row skip).")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadField(f"field {name!r} holds half of a character (a lone surrogate)", "Write it as UTF-8.") from error
    return value
