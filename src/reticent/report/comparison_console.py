# SPDX-License-Identifier: Apache-2.0
"""The lines that a comparison prints at its end: the answer, and a table of the settings."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reticent.core.comparison import Comparison, Setting
from reticent.core.finding import Estimate
from reticent.core.progress import console as person
from reticent.report import number_format as numbers
from reticent.report.setting_to_take import which_to_take


def print_comparison(comparison: Comparison, *, console: Console = person) -> None:
    """Print the headline, its sentences and a row a setting. Nothing is read as markup."""
    console.print()
    console.print(Text(comparison.headline, style="bold"))
    if take := which_to_take(comparison):
        console.print(Text(f"  {take}", style="bold"))
    for sentence in comparison.sentences:
        console.print(Text(f"  • {sentence}"))
    for together in comparison.together:
        console.print(Text(f"  • {together.sentence()}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("setting")
    for name in ("learning rate", "perplexity", "AUC at its best", "TPR at 10 % FPR", "AUC at the same loss"):
        table.add_column(name, justify="right")
    for setting in comparison.settings:
        table.add_row(*map(Text, _row(comparison, setting)))
    console.print(table)
    if comparison.audited:
        console.print(_audits(comparison))
    lost = [cell for cell in comparison.cells if cell.status != "done"]
    for cell in lost:
        console.print(Text(f"{cell.name} {cell.status}: {cell.why}", style="yellow"))


def _row(comparison: Comparison, setting: Setting) -> list[str]:
    if setting.best is None:
        return [setting.name, *["–"] * 5]
    best = comparison.points[setting.best]
    return [
        setting.name,
        f"{best.learning_rate:g}",
        f"{math.exp(best.loss.value):.2f}",
        _shown(best.auc),
        _shown(best.tpr_at_10pct_fpr),
        _shown(setting.matched.auc if setting.matched else None),
    ]


def _audits(comparison: Comparison) -> Table:
    """One audited model of each setting."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="One audited model of each setting", title_justify="left")
    table.add_column("setting")
    for name in ("perplexity", "AUC, records", "AUC, users", "extracted", "ε at least", "promise"):
        table.add_column(name, justify="right")
    for row in comparison.audited:
        cells = [
            comparison.settings[row.setting].name,
            f"{math.exp(row.loss.value):.2f}",
            _shown(row.record_auc),
            _shown(row.user_auc),
            _shown(row.extracted),
            "–" if row.epsilon is None else f"{row.epsilon.value:.2f} {row.epsilon.unit}",
            "none" if row.promise is None else row.promise.sentence,
        ]
        table.add_row(*map(Text, cells))
    return table


def _shown(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    shown = numbers.show(estimate)
    return f"{shown.value} {shown.interval}"
