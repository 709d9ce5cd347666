# SPDX-License-Identifier: Apache-2.0
"""`reticent report`: make the page again from the results."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from reticent.core.progress import console


def report(results: str, *, out: str | None = None) -> int:
    """Write report.html from a results.json, without any model.

    Args:
        results: a results.json, or the run folder that holds it.
        out: where to write the page; beside the results when not given.
    """
    from reticent.core.lock import locked
    from reticent.core.outputs import REPORT, file_to_write
    from reticent.report.render import write_report
    from reticent.report.results import read_results

    path = Path(results)
    path = path / "results.json" if path.is_dir() else path
    page = path.with_name("report.html") if out is None else Path(out)
    file_to_write(page, REPORT, inputs={"the results": path})
    with locked(page.parent) if out is None else nullcontext():  # an audit may be at both files
        write_report(page, read_results(path))
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    return 0
