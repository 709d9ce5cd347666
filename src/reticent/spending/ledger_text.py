# SPDX-License-Identifier: Apache-2.0
"""The ledger as a person reads it: a table for each group, its totals, and what was left out and why."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reticent.core.composed_epsilon import rounded_up
from reticent.spending.ledger import Ledger, LedgerGroup
from reticent.spending.recorded_training import RecordedTraining

UNSEEN = (
    "Runs that were deleted, moved elsewhere, or trained outside of a run folder cannot be seen here; what was seen of "
    "them was spent all the same."
)


def print_ledger(ledger: Ledger, *, console: Console) -> None:
    """Print it. Nothing is read as markup; no record, text or user is named."""
    if not ledger.groups and not ledger.unknown:
        console.print("No private training was found.")
    for number, group in enumerate(ledger.groups, start=1):
        console.print()
        console.print(Text(f"{number}. Trainings that share data", style="bold"))
        console.print(_table([*group.counted, *group.left_out, *group.without_privacy]))
        for line in lines(group):
            console.print(Text(line))
    if ledger.unknown:
        console.print()
        console.print(Text("Of unknown data, so that each total above is a least one", style="bold"))
        console.print(_table(list(ledger.unknown)))
    console.print()
    console.print(Text(UNSEEN, style="dim"))


def lines(group: LedgerGroup) -> list[str]:
    """Totals, notes, and what was left out, a sentence each."""
    sentences = [together.sentence() for together in group.totals]
    if not group.totals:
        sentences.append("None of these can be counted.")
    return [*sentences, *group.notes]


def _table(trainings: list[RecordedTraining]) -> Table:
    table = Table("training", "status", "ε, δ, relation", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("σ", "rate", "steps"):
        table.add_column(name, justify="right")
    for training in trainings:
        promise = training.promise
        if training.why_not:
            epsilon_text = f"not counted: {training.why_not}"
        elif promise is None:
            epsilon_text = "no ε: nothing is promised"
        else:
            epsilon = rounded_up(promise.epsilon)
            epsilon_text = f"ε = {epsilon} per {promise.unit} at δ = {promise.delta:.2g}, {promise.neighbouring}"
        numbers = ("–",) * 3
        if promise is not None:
            numbers = (f"{promise.noise_multiplier:.3g}", f"{promise.rate:.3g}", str(promise.steps))
        table.add_row(*map(Text, (training.name, training.status, epsilon_text, *numbers)))
    return table
