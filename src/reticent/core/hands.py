# SPDX-License-Identifier: Apache-2.0
"""Any number of hands that start one command on one file system: one leads, the others help it, and any may die."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from reticent.core.errors import BadInput
from reticent.core.lease import Leases, about

R = TypeVar("R")

PAUSE = 0.2
"""Seconds between two looks at what others do."""
LEAD = "lead.lease"
"""In the folder where hands meet: held by the one that leads."""


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
