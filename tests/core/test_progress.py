# SPDX-License-Identifier: Apache-2.0
"""How far work is: what is drawn, what is written into a log, and when."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from reticent.core import progress as module
from reticent.core.progress import Lines, progress, spell


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What goes into a file, with a line each hundredth of a second instead of each minute."""
    file = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=file, width=200))
    monkeypatch.setattr(module, "EVERY", 0.01)
    monkeypatch.setattr(module, "AT_ONCE", 0.0)
    return file


def test_a_line_says_how_many_of_how_many_and_the_time_left() -> None:
    clock = Clock()
    lines = Lines("Scoring (base)", 12_000, unit="texts", clock=clock)
    clock.seconds = 60
    assert lines.now() == "Scoring (base): 0 of 12,000 texts (0 %), 1 min so far"
    lines.advance(3000)
    assert lines.now() == "Scoring (base): 3,000 of 12,000 texts (25 %), 1 min so far, 3 min left"
    clock.seconds = 120
    lines.advance(9000)
    assert lines.now() == "Scoring (base): 12,000 of 12,000 texts (100 %), 2 min so far"
    assert lines.end() == "Scoring (base): 12,000 of 12,000 texts in 2 min"


@pytest.mark.parametrize("how", ["told", "at once"])
def test_what_an_earlier_call_did_does_not_shorten_the_time_left(how: str) -> None:
    clock = Clock()
    lines = Lines("Training", 100, unit="steps", done=80 if how == "told" else 0, clock=clock)
    if how == "at once":
        clock.seconds = 0.5
        lines.advance(80)
    clock.seconds = 100
    lines.advance(10)
    assert lines.now() == "Training: 90 of 100 steps (90 %), 1 min 40 s so far, 1 min 40 s left"


def test_nothing_to_do_is_no_division_by_zero() -> None:
    clock = Clock()
    lines = Lines("Scrubbing", 0, unit="records", clock=clock)
    clock.seconds = 61
    assert lines.now() == "Scrubbing: 0 of 0 records (100 %), 1 min so far"


def test_times_are_rounded_as_people_do_and_never_to_sixty() -> None:
    for seconds in range(0, 200_000, 7):
        said = spell(seconds + 0.6)
        assert "60" not in said.replace("60 h", "")
        assert said.split()[0] != "0" or seconds == 0


def test_in_a_log_there_is_a_line_now_and_then_while_nothing_moves_and_one_at_the_end(written: io.StringIO) -> None:
    with progress("Comparing", 4, unit="trainings") as advance:
        time.sleep(0.1)
        advance(3)
        time.sleep(0.1)
    lines = written.getvalue().splitlines()
    assert len(lines) > 3
    assert lines[0] == "Comparing: 0 of 4 trainings (0 %), 0 s so far"
    assert any(line.startswith("Comparing: 3 of 4 trainings (75 %)") and line.endswith("left") for line in lines)
    assert lines[-1] == "Comparing: 3 of 4 trainings in 0 s"


def test_short_work_leaves_no_line_and_none_comes_after_the_end(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("Training", 1) as advance:
        time.sleep(0.05)
        advance(1)
    said = written.getvalue()
    assert said
    time.sleep(0.05)
    assert written.getvalue() == said
    monkeypatch.undo()
    assert module.EVERY == 60
    file = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=file, width=200))
    with progress("Tokenising", 3, unit="records") as advance:
        advance(3)
    assert file.getvalue() == ""


def test_work_that_fails_stops_its_lines(written: io.StringIO) -> None:
    with pytest.raises(KeyError), progress("Training", 5) as advance:
        advance(1)
        raise KeyError
    said = written.getvalue()
    time.sleep(0.05)
    assert written.getvalue() == said


def test_a_quiet_console_stays_quiet(written: io.StringIO) -> None:
    module.console.quiet = True
    with progress("Training", 5):
        time.sleep(0.05)
    assert written.getvalue() == ""


def test_bars_on_a_terminal_with_work_within_work(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=file, force_terminal=True, force_interactive=True, width=120))
    with progress("Comparing", 2, unit="trainings", done=1) as outer:
        with progress("Training", 8, unit="steps") as inner:
            inner(8)
            (bars,) = module._open
            assert [(task.description, task.completed, task.total) for task in bars.tasks] == [
                ("Comparing", 1, 2),
                ("Training", 8, 8),
            ]
        assert len(bars.tasks) == 1
        outer(1)
    assert module._open == []
    assert "2/2" in file.getvalue()
    assert "so far" not in file.getvalue()
    with pytest.raises(KeyError), progress("Comparing", 2):
        raise KeyError
    assert module._open == []


@pytest.mark.parametrize(
    ("console", "there", "bars"),
    [
        (Console(file=io.StringIO(), force_jupyter=True), True, True),
        (Console(file=io.StringIO(), force_jupyter=True), False, False),
        (Console(file=io.StringIO(), force_terminal=True, force_interactive=True), False, True),
        (Console(file=io.StringIO(), force_terminal=True, force_interactive=False), True, False),  # TERM=dumb
        (Console(file=io.StringIO()), True, False),
    ],
)
def test_bars_are_drawn_where_they_can_be(
    console: Console, there: bool, bars: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "console", console)
    monkeypatch.setattr(module, "find_spec", lambda name: object() if there else None)
    assert module.shows_bars() is bars
