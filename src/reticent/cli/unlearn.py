# SPDX-License-Identifier: Apache-2.0
"""`reticent unlearn`: take records or people out of a run's model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.request import ForgetRequest

if TYPE_CHECKING:
    from reticent.core.finding import Estimate
    from reticent.unlearning.methods_folder import MethodTried

USUAL = (
    "out",
    "forget_users",
    "forget_ids",
    "forget_file",
    "forget_pattern",
    "forget_copies",
    "method",
    "methods",
    "learning_rate",
    "retain_budget",
    "dry_run",
)


def command(
    run: str,
    *,
    out: str = "runs/unlearned",
    request: ForgetRequest,
    unlearn_config: UnlearnConfig,
    methods: str | None = None,
    seeds: int = 1,
    dry_run: bool = False,
) -> int:
    """Take records or people out of a fine-tuned model, until they look like texts that it never saw.

    Half of what is forgotten tells when to stop, the other half judges (`reticent verify`). The same command again
    goes on from the last checkpoint; a further request goes on from this run folder.

    Args:
        run: the run folder of reticent tune, or of an earlier unlearning.
        out: the run folder to make. It holds ids and no text.
        methods: several, such as npo,simnpo,retrain, in place of --method: each unlearns the request into a run folder
            of its own below --out, and a table says what each forgets and costs.
        seeds: trainings of each of --methods.
        dry_run: say what would be forgotten, what repeats it, what could be shown and what training again would cost,
            and do nothing.
    """
    chosen = _methods(methods, seeds, unlearn_config)
    if dry_run:
        from reticent.workflows.unlearn import describe

        console.print("\n".join(describe(run, request, unlearn_config)), highlight=False, soft_wrap=True, markup=False)
        return 0
    if chosen:
        return _by_each(run, out, request, unlearn_config, chosen, seeds)
    from reticent.workflows.unlearn import unlearn

    folder = unlearn(run, out=out, forget=request, config=unlearn_config)
    console.print(f"model: {folder.model}\nnow: reticent verify {folder.root}", highlight=False, soft_wrap=True)
    return 0


def _methods(methods: str | None, seeds: int, config: UnlearnConfig) -> list[str]:
    """The names; none where one method is asked for."""
    if methods is None:
        if seeds != 1:
            raise BadInput(f"seeds={seeds}", "are for several methods", "Give --methods; for one training --seed.")
        return []
    if config.method != UnlearnConfig.method:
        raise BadInput(f"method={config.method} with methods={methods}", "both name methods", "Leave one out.")
    return [name.strip() for name in methods.split(",") if name.strip()]


def _by_each(
    run: str, out: str, request: ForgetRequest, config: UnlearnConfig, methods: Sequence[str], seeds: int
) -> int:
    from reticent.workflows.unlearn_methods import unlearn_by_each

    folder = unlearn_by_each(run, out=out, forget=request, methods=methods, seeds=seeds, config=config)
    _print(folder.tried())
    console.print(f"now: reticent verify {folder.root}/NAME", highlight=False, soft_wrap=True, markup=False)
    return 0


def _print(rows: Sequence[MethodTried]) -> None:
    """A row a model: what it forgets, and what that cost."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name")
    for name in ("steps", "AUC forget against unseen", "retain loss", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        place, seconds = row.place, row.seconds
        numbers = (
            "–" if row.step is None else str(row.step),
            "–" if place is None else _shown(place.forget),
            "–" if place is None else _shown(place.retain),
            "–" if seconds is None else f"{seconds:.0f}",
        )
        table.add_row(*map(Text, (row.name, *numbers)))
    console.print(table)
    for row in rows:
        if row.why_not:
            console.print(f"{row.name}: {row.why_not}", highlight=False, soft_wrap=True, markup=False)


def _shown(estimate: Estimate) -> str:
    from reticent.report import number_format

    shown = number_format.show(estimate)
    return f"{shown.value} {shown.interval}"
