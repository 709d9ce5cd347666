# SPDX-License-Identifier: Apache-2.0
"""Outcomes of a self-check: an item that was checked, or the guarantee that was violated."""

from __future__ import annotations

from dataclasses import dataclass

from reticent.core.errors import ReticentError


class GuaranteeViolated(ReticentError):
    """The running engine does not do what the plan promises. Exit code 1: nothing of the run may be released.

    Args:
        promise: which promise broke.
        measured: what was measured, with the bound that it breaks.
        meaning: what that means for those whose data it is.
    """

    exit_code = 1

    def __init__(self, promise: str, measured: str, meaning: str) -> None:
        self.promise, self.measured, self.meaning = promise, measured, meaning
        super().__init__(f"Broken promise: {promise}: {measured}. {meaning}")


@dataclass(frozen=True, kw_only=True)
class SelfCheckItem:
    """One thing that was checked, for the logs.

    Args:
        name: what was checked.
        measured: what was found; nothing that depends on the records.
        bound: what it had to be.
        passed: whether it was. None: it was not checked, and ``measured`` says why.

    Examples:
        >>> SelfCheckItem(name="noise", measured="1.00", bound="1.00", passed=True).passed
        True
    """

    name: str
    measured: str
    bound: str
    passed: bool | None
