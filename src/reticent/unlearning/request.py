# SPDX-License-Identifier: Apache-2.0
"""ForgetRequest: the flags that say whose records, or which, are to be taken out of a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput

SELECTORS = ("forget_users", "forget_ids", "forget_file", "forget_pattern")
"""The flags of which at least one is given. What several of them name is forgotten together."""


@dataclass(frozen=True, kw_only=True)
class ForgetRequest:
    """Records to be forgotten, as a person names them: by user, by id, by their text, or by a value that they hold.

    Nothing is looked up here: `reticent.unlearning.forget_set.forget_set` holds a request against a run.

    Args:
        forget_users: users of whom every trained record goes. A text is an id, several with commas between them, or a
            file with one a line (or a table with a field such as ``user``); in Python also a list of ids.
        forget_ids: ids of records, likewise.
        forget_file: records or mails in any format that training data may have; those with the same words and signs are
            forgotten. Line ends, white space and marks of quotation (``>``) do not count.
        forget_text_field: the field of ``forget_file`` that holds the text, where it has no usual name.
        forget_near: also forget records that repeat most of a record of ``forget_file``, or quote it, where none has
            the same words.
        forget_pattern: a value, such as a telephone number: every record that holds it as whole words goes, whatever
            its case.
        forget_regex: ``forget_pattern`` is a regular expression, of the package `regex`.
        forget_copies: also forget the trained records that repeat or quote what is asked for, whoever wrote them. They
            are counted and named in any case.

    Raises:
        BadInput: a value that names nothing, or a flag that has nothing to work on.

    Examples:
        >>> ForgetRequest(forget_users="alice", forget_copies=True).selectors
        ('forget_users',)
        >>> ForgetRequest(forget_pattern="")
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: --forget_pattern='': names nothing. Give a value; a variable of the shell may be unset.
    """  # noqa: E501 - the message of the example is one line

    forget_users: str | tuple[str, ...] | None = None
    forget_ids: str | tuple[str, ...] | None = None
    forget_file: str | None = None
    forget_text_field: str | None = None
    forget_near: bool = False
    forget_pattern: str | None = None
    forget_regex: bool = False
    forget_copies: bool = False

    def __post_init__(self) -> None:
        for flag in ("forget_users", "forget_ids"):
            object.__setattr__(self, flag, _ids(flag, getattr(self, flag)))
        if isinstance(self.forget_file, Path):
            object.__setattr__(self, "forget_file", str(self.forget_file))
        for flag in ("forget_file", "forget_text_field", "forget_pattern"):
            _check_text(flag, getattr(self, flag))
        for flag, needed in (
            ("forget_near", "forget_file"),
            ("forget_text_field", "forget_file"),
            ("forget_regex", "forget_pattern"),
        ):
            if getattr(self, flag) and getattr(self, needed) is None:
                raise BadInput(f"--{flag}", f"says how --{needed} is read, and there is none", f"Give --{needed}.")

    @property
    def selectors(self) -> tuple[str, ...]:
        """The flags of ``SELECTORS`` that were given."""
        return tuple(flag for flag in SELECTORS if getattr(self, flag) is not None)

    def check(self) -> None:
        """Refuse a request that asks for nothing.

        Raises:
            BadInput: no flag of ``SELECTORS`` was given.
        """
        if not self.selectors:
            raise BadInput(
                "the request",
                "names nobody and nothing to be forgotten",
                f"Give at least one of {', '.join(f'--{flag}' for flag in SELECTORS)}.",
            )


def _ids(flag: str, value: Any) -> str | tuple[str, ...] | None:
    """A text as it is; several ids as texts."""
    if value is None:
        return None
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        _check_text(flag, value)
        return value
    values = tuple(value) if isinstance(value, Iterable) and not isinstance(value, bytes) else (value,)
    for entry in values:
        if isinstance(entry, bool) or not isinstance(entry, str | int):
            raise BadInput(
                f"--{flag} {str(entry)[:80]}",
                f"is a {type(entry).__name__}, and ids are texts or whole numbers",
                "Give the ids as they stand in the data.",
            )
    if not values:
        raise BadInput(f"--{flag} []", "names nothing", "Give at least one id.")
    return tuple(str(entry) for entry in values)


def _check_text(flag: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise BadInput(f"--{flag}", f"is a {type(value).__name__} and no text", "Give a text.")
    if not value.strip():
        raise BadInput(
            f"--{flag}={value[:20]!r}", "names nothing", "Give a value; a variable of the shell may be unset."
        )
    if flag == "forget_pattern":
        validate.at_most(LONGEST_PATTERN, characters_of_forget_pattern=len(value))


LONGEST_PATTERN = 1000
"""Characters. A longer text is a record: give it in a file (``forget_file``)."""
