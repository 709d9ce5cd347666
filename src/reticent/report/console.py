# SPDX-License-Identifier: Apache-2.0
"""What an audit prints at its end: the verdict and the headline numbers, each with its interval."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reticent.core.finding import Finding
from reticent.core.progress import console as person
from reticent.core.results import Results
from reticent.report import numbers, summary

STYLES = {"leaks": "bold red", "not_detected": "bold blue", "confounded": "bold magenta", "underpowered": "bold yellow"}


def print_summary(results: Results, *, console: Console = person) -> None:
    """Print the verdict in words and a table of the strongest findings.

    On a confounded split no membership number is printed: someone would quote it. Nothing in the results is read as
    markup.
    """
    status = results.verdict.status
    console.print()
    console.print(Text(summary.STATUS_WORDS[status].upper(), style=STYLES[status]), Text(results.verdict.headline))
    for sentence in results.verdict.sentences:
        console.print(Text(f"  • {sentence}"))
    rows = _rows(results)
    if rows:
        console.print(_table(rows))
    off = [run.name for run in results.attacks if not run.ran]
    if off:
        console.print(Text(f"Switched off (the report says why): {', '.join(off)}.", style="dim"))


def _rows(results: Results) -> list[Finding]:
    wanted = [("record", "auc"), ("record", "tpr@0.01"), ("user", "auc"), ("canary", "exposure_bits")]
    if results.verdict.status == "confounded":
        wanted = [("canary", "exposure_bits")]
    found = [summary.best(results, level, metric) for level, metric in wanted]
    if results.verdict.status != "confounded":
        found.append(summary.strongest_epsilon(results))
    return [finding for finding in found if finding is not None]


def _table(rows: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("strongest of", "metric"):
        table.add_column(name)
    for name in ("value", "interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("attack")
    for finding in rows:
        shown = numbers.show(finding.estimate, finding.metric)
        metric, value = numbers.metric_name(finding.metric), f"{shown.value} {shown.unit}".rstrip()
        if finding.metric == "epsilon_lower":  # its unit names δ and what one unit is: too long for a number
            metric, value = f"{metric} ({shown.unit})" if shown.unit else metric, shown.value
        cells = (
            finding.level,
            metric,
            value,
            f"{shown.interval} {shown.confidence}",
            f"{finding.estimate.n:,}",
            finding.attack,
        )
        table.add_row(*map(Text, cells))
    return table
