# SPDX-License-Identifier: Apache-2.0
"""`reticent gate`: pass or fail a results file by limits, for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reticent.core.limit_arguments import with_limits
from reticent.core.progress import console

if TYPE_CHECKING:
    from reticent.core.difference import Difference


@with_limits
def gate(
    results: str,
    *,
    max_promised_epsilon: float | None = None,
    promised_unit: Literal["record", "user"] = "user",
    on: Literal["lower", "value", "upper"] = "value",
    baseline: str | None = None,
    junit: str | None = None,
    **given: float | None,
) -> int:
    """Fail when a model leaks more than you allow. Exit code 0: within all limits, 1: above one, 2: cannot be checked.

    A broken promise of differential privacy fails whatever the limits are.

    Args:
        results: a results.json, or the run folder that holds it.
        limits: each a flag of its own (`reticent.core.metrics`).
        max_promised_epsilon: limit on the epsilon that the training promised, in nats.
        promised_unit: whose epsilon that is, "record" or "user".
        on: which number must be within the limit: lower, value or upper end of the interval.
        baseline: run folder of an earlier audit of the same records and coins: fails only where the paired difference
            is certain that more leaks now. The results must be a run folder too.
        junit: also write the outcome as a JUnit XML file here.
    """
    from reticent.core.outputs import JUNIT, file_to_write
    from reticent.report.results_file import read_results
    from reticent.workflows.gate import gate as decide
    from reticent.workflows.gate import write_junit

    path = Path(results)
    path = path / "results.json" if path.is_dir() else path
    if junit is not None:
        file_to_write(junit, JUNIT, flag="junit", inputs={"the results": path})
    outcome = decide(
        read_results(path),
        max_promised_epsilon=max_promised_epsilon,
        promised_unit=promised_unit,
        on=on,
        baseline=None if baseline is None else _since(baseline, path),
        **given,
    )
    if junit is not None:
        write_junit(junit, outcome)
    for line in outcome.lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return outcome.exit_code


def _since(baseline: str, path: Path) -> Difference:
    from reticent.workflows.diff import diff

    return diff(baseline, path if path.is_dir() else path.parent)
