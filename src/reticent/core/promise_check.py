# SPDX-License-Identifier: Apache-2.0
"""One line of the self-check of a promise, as results and pages have it: without what was measured, which no promise
covers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PromiseCheck:
    """One line of the self-check.

    Args:
        name: of the promise that is looked at.
        bound: that it has to keep to.
        passed: whether it did; None where there was too little to tell, or nobody looked in this call.

    Examples:
        >>> PromiseCheck(name="each unit stands behind one text", bound="one", passed=True).passed
        True
    """

    name: str
    bound: str
    passed: bool | None
