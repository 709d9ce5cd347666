# SPDX-License-Identifier: Apache-2.0
"""`reticent demo`: the whole path on a made-up help desk."""

from __future__ import annotations

from reticent.core.progress import console


def command(*, out: str = "runs/demo") -> int:
    """Fine-tune a small real model on a made-up help desk, audit it, and write the report. Minutes on two cores.

    Args:
        out: the run folder.
    """
    from reticent.report.console import print_summary
    from reticent.workflows.demo import demo as run

    report, results = run(out)
    print_summary(results)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)
    return 0
