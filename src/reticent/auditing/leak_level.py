# SPDX-License-Identifier: Apache-2.0
"""The meaning of a level of findings in the verdict; the family that makes the findings declares it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LeakLevel:
    """The meaning of a level of findings in the verdict.

    Args:
        name: of the level, as `Finding.level` has it.
        words: name of the leaked things in the headline.
        place: in the headline, from the plainest harm (0) on.
        randomized: coins or controls of their own decide these findings, so they hold for any split, and are reported
            on a confounded one too.
        headline: a sentence that goes before the verdict on a confounded split; empty: none.
    """

    name: str
    words: str
    place: int
    randomized: bool = False
    headline: str = ""
