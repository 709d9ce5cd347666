# SPDX-License-Identifier: Apache-2.0
"""`reticent ls`: the runs of a folder."""

from __future__ import annotations


def ls(folder: str = "runs") -> int:
    """List runs: when they were made, whether they ended, and what they found.

    Args:
        folder: where the run folders lie.
    """
    from reticent.report.listing import print_runs

    print_runs(folder)
    return 0
