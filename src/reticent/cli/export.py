# SPDX-License-Identifier: Apache-2.0
"""`reticent export`: the numbers and figures of results as files for other tools."""

from __future__ import annotations

from pathlib import Path

from reticent.core.errors import BadInput
from reticent.core.progress import console


def export(results: str, *, csv: str | None = None, figures: str | None = None) -> int:
    """Write the findings and every table of a results.json as CSV, or its figures as SVG with their numbers.

    No text of records is written, also where the results hold some.

    Args:
        results: a results.json, or the run folder that holds it.
        csv: a folder for findings.csv and a CSV file for each further table.
        figures: a folder for the figures, each as .svg and .csv.
    """
    from reticent.core.outputs import refuse_empty
    from reticent.report.csv_files import write_csv
    from reticent.report.figure_files import export as write_figures
    from reticent.report.results_file import read_results

    if csv is None and figures is None:
        raise BadInput("export", "was not told what to write", "Give --csv FOLDER, --figures FOLDER, or both.")
    for flag, folder in (("csv", csv), ("figures", figures)):
        if folder is not None:
            refuse_empty(flag, folder)
    if csv is not None and figures is not None and Path(csv).resolve() == Path(figures).resolve():
        raise BadInput(f"--csv and --figures {csv!r}", "are one folder, and both have files of numbers", "Give two.")
    path = Path(results)
    path = path / "results.json" if path.is_dir() else path
    content, inputs = read_results(path), {"the results": path}
    if csv is not None:
        written = write_csv(csv, content, inputs=inputs)
        console.print(f"{len(written)} tables as .csv: {csv}", markup=False, highlight=False, soft_wrap=True)
    if figures is not None:
        drawn = write_figures(figures, content, inputs=dict(inputs))
        console.print(
            f"{len(drawn)} figures, each as .svg and .csv: {figures}", markup=False, highlight=False, soft_wrap=True
        )
    return 0
