# SPDX-License-Identifier: Apache-2.0
"""Scan the base before a private fine-tuning starts from it (`reticent tune --scan`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.core.scan_results import ScanResults
from reticent.core.scan_words import FILES, FOUND
from reticent.workflows.scan import scan

PRE_MEMORIZATION = "pre_memorization"


def scan_first(base: str, records: Sequence[Record], *, sibling: str | None = None) -> ScanResults:
    """Scan the files of ``base``; with a sibling, look too whether it knows ``records`` already.

    What is suspicious is said, and only what was found stops: a suspicion is for a person to weigh.

    Args:
        base: folder or catalogue name of the model that is to be tuned.
        records: private text that it is to be tuned on.
        sibling: a trusted model of the same kind; None: only files are looked at.

    Raises:
        BadInput: something was found, or the base is not here to be looked at.
    """
    only = [FILES] if sibling is None else [FILES, PRE_MEMORIZATION]
    results = scan(base, base=sibling, data=() if sibling is None else records, only=only)
    lines = [f"scan of {Path(base).name}: {results.verdict.headline}", *results.verdict.sentences]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    if results.verdict.word == FOUND:
        worst = next(outcome for outcome in results.outcomes if outcome.word == FOUND)
        raise BadInput(
            f"the base {base}",
            f"did not pass the scan: {worst.sentence}",
            "Do not tune it. `reticent scan` shows all of it; leave out --scan once you trust it all the same.",
        )
    return results
