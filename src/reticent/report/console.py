# SPDX-License-Identifier: Apache-2.0
"""The lines that an audit prints at its end: the verdict and the headline numbers, each with its interval."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from reticent.core.finding import Finding
from reticent.core.metrics import headlines
from reticent.core.progress import console as person
from reticent.core.results import Results
from reticent.report import number_format as numbers
from reticent.report import summary

STYLES = {"leaks": "bold red", "not_detected": "bold blue", "confounded": "bold magenta", "underpowered": "bold yellow"}


def print_summary(results: Results, *, console: Console = person) -> None:
    """Print the verdict in words and the strongest findings, one a line.

    On a confounded split no membership number is printed: someone would quote it. Nothing in the results is read as
    markup.
    """
    status = results.verdict.status
    console.print()
    console.print(Text(summary.STATUS_WORDS[status].upper(), style=STYLES[status]), Text(results.verdict.headline))
    for sentence in results.verdict.sentences:
        console.print(Text(f"  • {sentence}"))
    if results.promise is not None:
        console.print(Text.assemble(("  promised: ", "dim"), (results.promise.sentence, "bold")))
        for line in results.promise.together:
            console.print(Text.assemble(("  with the runs beside it: ", "dim"), line))
    rows = _rows(results)
    for finding in rows:
        console.print(_line(finding))
    off = [run.name for run in results.attacks if not run.ran]
    if off:
        console.print(Text(f"Switched off (the report says why): {', '.join(off)}.", style="dim"))


def _rows(results: Results) -> list[Finding]:
    wanted = headlines()
    if results.verdict.status == "confounded":
        wanted = [(level, metric) for level, metric in wanted if level not in ("record", "user", "*")]
    strongest = [summary.best(results, level, metric) for level, metric in wanted]
    return [finding for finding in strongest if finding is not None]


def _line(finding: Finding) -> Text:
    """Level, metric, number with interval and confidence, n and attack; wraps wherever it is read."""
    shown = numbers.show(finding.estimate, finding.metric)
    start = f"  {finding.level} level, {numbers.metric_name(finding.metric)}: "
    number = f"{shown.value} {shown.unit}".rstrip()
    rest = f" {shown.interval} {shown.confidence}, n = {finding.estimate.n:,}, {finding.attack}"
    return Text.assemble((start, "dim"), (number, "bold"), rest)
