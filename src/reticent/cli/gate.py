# SPDX-License-Identifier: Apache-2.0
"""`reticent gate`: pass or fail a results file by limits, for CI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reticent.core.errors import BadInput
from reticent.core.limit_arguments import with_limits
from reticent.core.progress import console

if TYPE_CHECKING:
    from reticent.core.difference import Difference
    from reticent.workflows.gate import GateOutcome, On


@with_limits
def command(
    results: str,
    *,
    max_promised_epsilon: float | None = None,
    promised_unit: Literal["record", "user"] = "user",
    on: Literal["lower", "value", "upper"] = "value",
    baseline: str | None = None,
    max_forget_auc: float | None = None,
    min_forget_auc: float | None = None,
    junit: str | None = None,
    **given: float | None,
) -> int:
    """Fail when a model leaks more than you allow. Exit code 0: within all limits, 1: above one, 2: cannot be checked.

    A broken promise of differential privacy fails whatever the limits are.

    Args:
        results: a results.json, or the run folder that holds it; with a limit on forget_auc an unlearning.json.
        limits: each a flag of its own (`reticent.core.metrics`).
        max_promised_epsilon: limit on the epsilon that the training promised, in nats.
        promised_unit: whose epsilon that is, "record" or "user".
        on: which number must be within the limit: lower, value or upper end of the interval.
        baseline: run folder of an earlier audit of the same records and coins: fails only where the paired difference
            is certain that more leaks now. The results must be a run folder too.
        max_forget_auc: limit on the AUC of forgotten against unseen rows, by any attack (reticent verify).
        min_forget_auc: the same from below: rows that are too unlikely can be told by that.
        junit: also write the outcome as a JUnit XML file here.
    """
    from reticent.core.outputs import JUNIT, file_to_write
    from reticent.report.results_file import read_results
    from reticent.workflows.gate import gate as decide
    from reticent.workflows.gate import write_junit

    forget = {"max_forget_auc": max_forget_auc, "min_forget_auc": min_forget_auc}
    unlearning = any(limit is not None for limit in forget.values())
    path = Path(results)
    path = path / ("unlearning.json" if unlearning else "results.json") if path.is_dir() else path
    if junit is not None:
        file_to_write(junit, JUNIT, flag="junit", inputs={"the results": path})
    others = {"max_promised_epsilon": max_promised_epsilon, "baseline": baseline, **given}
    if unlearning:
        outcome = _of_unlearning(path, forget, others, on)
    else:
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


def _of_unlearning(path: Path, limits: Mapping[str, float | None], others: Mapping[str, object], on: On) -> GateOutcome:
    from reticent.report.unlearning_file import read_unlearning
    from reticent.workflows.unlearning_gate import gate_unlearning

    beside = next((name for name, limit in others.items() if limit is not None), "")
    if beside:
        raise BadInput(
            f"{beside} beside a limit on forget_auc",
            "one is held against an audit, the other against the verification of an unlearning",
            "Call reticent gate twice.",
        )
    return gate_unlearning(read_unlearning(path), on=on, **limits)


def _since(baseline: str, path: Path) -> Difference:
    from reticent.workflows.diff import diff

    return diff(baseline, path if path.is_dir() else path.parent)
