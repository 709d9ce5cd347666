# SPDX-License-Identifier: Apache-2.0
"""How long work says how far it is: a bar in a terminal or notebook, a line a minute in a log file or CI.

```
Training: 120 of 480 steps (25 %), 3 min so far, 9 min left
```

All on stderr, nothing with ``console.quiet``, and no line of what takes less than a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)
"""Where all words to the person go. Set ``console.quiet = True`` to silence it."""

EVERY = 60.0
"""Seconds between two lines where there is no bar."""

AT_ONCE = 1.0
"""Seconds."""

_open: list[Progress] = []
"""The bars that are on display, if any: work within work adds its bar to them."""


@contextmanager
def progress(title: str, total: int, *, unit: str = "", done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show how far the work within is, and yield ``advance(n)``: n more are done.

    Args:
        title: what is done, such as "Training".
        total: how many there are.
        unit: of what, in the plural.
        done: how many of them were done by an earlier call; the time that is left is not reckoned from them.
    """
    if shows_bars():
        with _bar(title, total, unit, done) as advance:
            yield advance
    else:
        with _lines(Lines(title, total, unit=unit, done=done), EVERY) as advance:
            yield advance


def shows_bars() -> bool:
    """True if ``console`` can draw over what it drew: a terminal that is none of the dumb ones, or a notebook with what
    Rich needs there."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None and find_spec("IPython") is not None
    return console.is_interactive


class Lines:
    """Lines of text on the progress of one piece of work, for outputs that show no bar.

    Args:
        title, total, unit, done: as of `progress`.
        clock: seconds from any start.

    >>> clock = [0.0]
    >>> lines = Lines("Training", 480, unit="steps", clock=lambda: clock[0])
    >>> clock[0] = 60.0
    >>> lines.advance(120)
    >>> lines.now()
    'Training: 120 of 480 steps (25 %), 1 min so far, 3 min left'
    >>> clock[0] = 150.0
    >>> lines.advance(360)
    >>> lines.end()
    'Training: 480 of 480 steps in 2 min 30 s'
    """

    def __init__(
        self, title: str, total: int, *, unit: str = "", done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.title, self.total, self.unit, self.done, self.before, self.clock = title, total, unit, done, done, clock
        self.started = clock()

    def advance(self, n: int) -> None:
        """n more are done. What is done at once was found done, in a cache say, and tells nothing of the time left."""
        self.done += n
        if self.clock() - self.started < AT_ONCE:
            self.before += n

    def now(self) -> str:
        """The work, the count done of the total, and the time left at the pace so far."""
        seconds, here = self.clock() - self.started, self.done - self.before
        percent = 100 * self.done / self.total if self.total else 100
        text = f"{self._counted()} ({percent:.0f} %), {spell(seconds)} so far"
        left = max(self.total - self.done, 0)
        return f"{text}, {spell(seconds / here * left)} left" if here > 0 and left else text

    def end(self) -> str:
        """How many were done, and how long it took."""
        return f"{self._counted()} in {spell(self.clock() - self.started)}"

    def _counted(self) -> str:
        return f"{self.title}: {self.done:,} of {self.total:,} {self.unit}".rstrip()


def spell(seconds: float) -> str:
    """A time as people say it, rounded.

    >>> spell(0.4), spell(59.6), spell(150), spell(700), spell(7300), spell(200_000)
    ('0 s', '1 min', '2 min 30 s', '12 min', '2 h 2 min', '56 h')
    """
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    if seconds < 600:
        minutes, rest = divmod(round(seconds / 10) * 10, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 24:
        return f"{round(seconds / 3600)} h"
    return " ".join(f"{n} {name}" for n, name in ((hours, "h"), (minutes, "min")) if n)


@contextmanager
def _lines(lines: Lines, every: float) -> Iterator[Callable[[int], None]]:
    """A line each ``every`` seconds, from a thread: one item may take longer than that."""
    ended, printed = threading.Event(), threading.Event()

    def beat() -> None:
        while not ended.wait(every):
            _print(lines.now())
            printed.set()

    thread = threading.Thread(target=beat, name=f"progress of {lines.title}", daemon=True)
    thread.start()
    try:
        yield lines.advance
    finally:
        ended.set()
        thread.join()
        if printed.is_set():
            _print(lines.end())


def _print(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _bar(title: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    """A bar of its own, or one more below those that are on display."""
    if _open:
        bars = _open[-1]
        task = bars.add_task(title, total=total, completed=done, unit=unit)
        try:
            yield lambda n: bars.advance(task, n)
        finally:
            bars.remove_task(task)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        _open.append(bars)
        task = bars.add_task(title, total=total, completed=done, unit=unit)
        try:
            yield lambda n: bars.advance(task, n)
        finally:
            _open.remove(bars)
