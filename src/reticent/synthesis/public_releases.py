# SPDX-License-Identifier: Apache-2.0
"""All that every mechanism of synthetic text takes as known to everybody, so that the statement can say it."""

from __future__ import annotations

from reticent.core.synthesis import SynthesisRelease


def public_releases(unit: str, *, topics: bool) -> tuple[SynthesisRelease, ...]:
    """All that every mechanism takes as known to everybody."""
    return (
        SynthesisRelease(
            what="the words before each text" + (", and the topics" if topics else ""),
            covered="they count as known to all: they were given with the command, and must not come from the data",
        ),
        SynthesisRelease(
            what=f"the number of texts, and how many {unit}s there are", covered="they count as known to all"
        ),
        SynthesisRelease(
            what="the settings",
            covered="not covered: who chose them in view of texts of another run must add what that run cost",
        ),
        SynthesisRelease(what="filters", covered="none looked at private text"),
    )
