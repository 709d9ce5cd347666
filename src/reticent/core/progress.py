# SPDX-License-Identifier: Apache-2.0
"""One look for all progress bars, on stderr, silent where no person looks (``TERM=dumb``, pipes, ``-q``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)
"""Where all words to the person go. Set ``console.quiet = True`` to silence it."""


@contextmanager
def progress(title: str, total: int, *, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show a bar and yield ``advance(n)``.

    On something that is no terminal (a log file, CI) one line is printed at the start and one at the end.
    """
    if not console.is_terminal:
        console.print(f"{title}: {total:,} {unit}".rstrip(), highlight=False)
        yield lambda n: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n: bar.advance(task, n)
