# SPDX-License-Identifier: Apache-2.0
"""`reticent ls`: the runs of a folder."""

from __future__ import annotations

from rich.table import Table

from reticent.core.progress import console


def ls(folder: str = "runs") -> int:
    """List runs: when they were made, whether they ended, and what they found.

    Args:
        folder: where the run folders lie.
    """
    from reticent.report.listing import runs

    table = Table("run", "made", "status", "best AUC", "what it says", box=None)
    for run in runs(folder):
        best = f"{run.best_auc.value:.3f} [{run.best_auc.lo:.3f}, {run.best_auc.hi:.3f}]" if run.best_auc else ""
        table.add_row(run.id, run.created, run.status, best, run.headline)
    console.print(table)
    return 0
