# SPDX-License-Identifier: Apache-2.0
"""`reticent report`: make the page again from the results, check a page against them, or save its figures."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.progress import console


def command(results: str, *, out: str | None = None, export: str | None = None, verify: str | None = None) -> int:
    """Write report.html from a results.json, without any model.

    With --export: write every figure as SVG and its numbers as CSV instead. With --verify: say whether a page, or the
    digits on a printed one, belong to the results (exit code 0: they do, 1: they do not, 2: it cannot be said).

    Args:
        results: a results.json, or the run folder that holds it.
        out: where to write the page; beside the results when not given.
        export: a folder for the figures.
        verify: a report.html, or 16 digits or more of the SHA-256 that is printed on it.
    """
    given = {"out": out, "export": export, "verify": verify}
    several = [f"--{name}" for name, value in given.items() if value is not None]
    if len(several) > 1:
        raise BadInput(" and ".join(several), "each ask for something else", "Give one of them.")
    path = Path(results)
    path = path / "results.json" if path.is_dir() else path
    if verify is not None:
        return _verify(path, verify)
    if export is not None:
        return _export(path, export)
    from reticent.core.lock import locked
    from reticent.core.outputs import REPORT, file_to_write
    from reticent.report.audit_page import write_report
    from reticent.report.results_file import read_results

    page = path.with_name("report.html") if out is None else Path(out)
    file_to_write(page, REPORT, inputs={"the results": path})
    with locked(page.parent) if out is None else nullcontext():  # an audit may be at both files
        write_report(page, read_results(path))
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    return 0


def _verify(path: Path, page: str) -> int:
    from reticent.report.match import verify

    match = verify(path, page)
    style = "green" if match.matches else "bold red"
    console.print(match.outcome, style=style, markup=False, highlight=False, soft_wrap=True)
    return 0 if match.matches else 1


def _export(path: Path, folder: str) -> int:
    from reticent.core.outputs import refuse_empty
    from reticent.report.figure_files import export
    from reticent.report.results_file import read_results

    refuse_empty("export", folder)
    written = export(folder, read_results(path), inputs={"the results": path})
    console.print(f"{len(written)} figures, each as .svg and .csv: {folder}", highlight=False, soft_wrap=True)
    return 0
