# SPDX-License-Identifier: Apache-2.0
"""Any number of hands that start one command on one file system: one leads, the others help it, and any may die."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from reticent.core.errors import BadInput
from reticent.core.lease import Leases, about

R = TypeVar("R")

PAUSE = 0.2
"""Seconds between two looks at what others do."""
LEAD = "lead.lease"
"""In the folder where hands meet: held by the one that leads."""
COMPARED = ("reticent", "torch", "transformers", "peft")
"""Packages whose versions decide the outcome."""


def in_words(settings: Any) -> str:
    """The command of a hand and its versions, in words that another one can be told.

    Args:
        settings: all that hands have to have been asked for alike; they are told as a digest.

    Examples:
        >>> in_words([1]).startswith("command ")
        True
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return ", ".join([f"command {digest}", *(f"{name} {version(name)}" for name in COMPARED)])


def stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is written anew; None where there is none."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns
    return None


def lead_or_help(
    folder: Path,
    *,
    flag: str,
    asked: str,
    lead: Callable[[], R],
    help_out: Callable[[], bool],
    done: Callable[[], R | None],
) -> R:
    """Do ``lead`` once among all hands that call this with one ``folder``: one leads, the others help it.

    When the one that leads dies, another takes its place.

    Args:
        folder: where they meet. It is gone in the end.
        flag: by which this was asked for, for messages.
        asked: the command of all hands, versions included, in words that another hand can be told.
        lead: the work. It may be killed and begun again, here or by another hand.
        help_out: does a piece of the work that nobody is at; whether there was one.
        done: the outcome that the hand which led has left; None where it left none.

    Raises:
        BadInput: the hand that leads was asked for something else; or as ``lead``, or as ``help_out``.

    Examples:
        >>> lead_or_help(
        ...     Path("meeting"), flag="--workers join", asked="audit", lead=lambda: 3, help_out=lambda: False,
        ...     done=lambda: None,
        ... )
        3
    """
    leases, path = Leases(), folder / LEAD
    helped = False
    try:
        while (lease := leases.take(path, asked)) is None:
            theirs = about(path)
            if theirs and theirs != asked:
                raise BadInput(
                    flag,
                    f"the hand that leads was asked for something else, or has other versions ({theirs}; here {asked})",
                    "Start all hands with the same command, in the same environment.",
                )
            helped = True
            if not theirs or not help_out():  # nobody knows yet what a hand that begins was asked for
                time.sleep(PAUSE)
        with lease:
            outcome = done() if helped else None
            return lead() if outcome is None else outcome
    finally:
        for place in (folder, folder.parent):
            with suppress(OSError):
                place.rmdir()
