# SPDX-License-Identifier: Apache-2.0
"""`reticent diff`: two audits of the same coins side by side."""

from __future__ import annotations

from reticent.core.progress import console


def command(before: str, after: str, *, out: str | None = None, confidence: float = 0.95, seed: int = 0) -> int:
    """Say what a second model leaks more or less than a first, by their audits on the same records and coins.

    For one checkpoint against the next, and for before against after a repair or another training. Changes are paired,
    so they show much smaller differences than two reports side by side.

    Args:
        before: run folder of the first audit.
        after: run folder of the second.
        out: also write diff.html and diff.json into this folder.
        confidence: that the intervals of all changes hold together.
        seed: of the multipliers.
    """
    from reticent.report.difference_page import places, print_difference, write_difference
    from reticent.workflows.diff import diff as compare_audits

    if out is not None:
        places(out)  # before any work
    difference = compare_audits(before, after, confidence=confidence, seed=seed)
    print_difference(difference)
    if out is not None:
        page = write_difference(out, difference)
        console.print(f"report: {page}", highlight=False, soft_wrap=True)
    return 0
