# SPDX-License-Identifier: Apache-2.0
"""Errors that say what was given, why it is refused and how to fix it, and the exit code they stand for."""

from __future__ import annotations


class ReticentError(Exception):
    """Base of all errors that this package raises on purpose. The CLI turns it into one message, not a traceback."""

    exit_code = 2


class BadInput(ReticentError):
    """An input that cannot be used. Exit code 2.

    Args:
        given: what was given, in the user's words (a path, a flag, a line number).
        why: the reason it is refused.
        fix: what to do instead.

    Examples:
        >>> raise BadInput("--max_auc 7", "is no AUC", "Give a number between 0 and 1.")
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: --max_auc 7: is no AUC. Give a number between 0 and 1.
    """

    def __init__(self, given: str, why: str, fix: str) -> None:
        self.given, self.why, self.fix = given, why, fix
        super().__init__(f"{given}: {why}. {fix}")


class Underpowered(BadInput):
    """A statistic was asked for with too few units to mean anything. Exit code 2.

    Examples:
        >>> raise Underpowered("20 held-out records", "say nothing about 1 % false alarms", "Hold out 1,000.")
        Traceback (most recent call last):
            ...
        reticent.core.errors.Underpowered: 20 held-out records: say nothing about 1 % false alarms. Hold out 1,000.
    """


class Unusable(BadInput):
    """Something of this machine is in the way: a full disk, a folder that another process works in. Exit code 2.

    The same command may work later, so nobody may take it for a refusal of what was asked, and remember it.
    """
