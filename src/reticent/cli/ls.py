# SPDX-License-Identifier: Apache-2.0
"""`reticent ls`: the runs of a folder, and what the private ones cost together."""

from __future__ import annotations

from rich.table import Table

from reticent.core.errors import BadInput
from reticent.core.progress import console


def ls(folder: str = "runs", *, ledger: bool = False, also: str = "") -> int:
    """List runs: when they were made, whether they ended, and what they found.

    With --ledger: what each private training promised, and what those that share data cost together.

    Args:
        folder: where the run folders lie.
        ledger: add up the ε of private trainings instead.
        also: further folders for the ledger, separated by commas.
    """
    if ledger:
        return _ledger([folder, *(word.strip() for word in also.split(",") if word.strip())])
    if also:
        raise BadInput(f"also={also!r}", "is only used with the ledger", "Give --ledger, or leave it out.")
    from reticent.report.listing import runs

    table = Table("run", "made", "status", "best AUC", "what it says", box=None)
    for run in runs(folder):
        best = f"{run.best_auc.value:.3f} [{run.best_auc.lo:.3f}, {run.best_auc.hi:.3f}]" if run.best_auc else ""
        table.add_row(run.id, run.created, run.status, best, run.headline)
    console.print(table)
    return 0


def _ledger(folders: list[str]) -> int:
    from reticent.spending.ledger import ledger
    from reticent.spending.words import print_ledger

    print_ledger(ledger(folders), console=console)
    return 0
