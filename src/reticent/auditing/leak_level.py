# SPDX-License-Identifier: Apache-2.0
"""The meaning of a level of findings in the verdict, said by the family that makes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LeakLevel:
    """The meaning of a level of findings in the verdict.

    Args:
        name: of the level, as `Finding.level` has it.
        words: for what is leaked at this level, in the headline.
        place: in the headline, from the plainest harm (0) on.
        randomized: the findings hold whatever the two sides of the split are like, since coins or controls of their own
            decide: they are told on a confounded split too.
        headline: a sentence that goes before the verdict on a confounded split; empty: none.
    """

    name: str
    words: str
    place: int
    randomized: bool = False
    headline: str = ""
