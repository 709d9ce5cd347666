# SPDX-License-Identifier: Apache-2.0
"""Processes that are started for a deployment, what they start in turn, and their end: each by its id, none by name."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


def running() -> dict[int, tuple[int, str]]:
    """All processes of this machine: id → id of the parent, and when it was started (an id may be given again)."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,lstart="],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    listed_processes = {}
    for line in listed.stdout.splitlines():
        number, parent, state, started = line.split(None, 3)
        if not state.startswith("Z"):
            listed_processes[int(number)] = (int(parent), started)
    return listed_processes


def below(pid: int, processes: Mapping[int, tuple[int, str]]) -> dict[int, str]:
    """A process and all that it started, directly or not: id → when it was started."""
    family = {pid: processes[pid][1]} if pid in processes else {}
    wanted = {pid}
    while wanted:
        wanted = {number for number, (parent, _) in processes.items() if parent in wanted} - family.keys()
        family |= {number: processes[number][1] for number in wanted}
    return family


@dataclass(kw_only=True, eq=False)
class ChildProcesses:
    """Starts processes, and ends them with all that they started.

    Args:
        environment: of them.
        log: where what they print goes.
    """

    environment: Mapping[str, str]
    log: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    seen: dict[int, str] = field(default_factory=dict)

    def start(self, command: Sequence[str], **variables: str) -> subprocess.Popen[bytes]:
        """Start one.

        Args:
            command: words.
            variables: of its environment beside those of all.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - words of this package
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**self.environment, **variables}
            )
        self.started.append(process)
        return process

    def look(self) -> None:
        """Remember what they have started so far: a child whose parent died is not listed below it."""
        processes = running()
        for process in self.started:
            self.seen |= below(process.pid, processes)
        for number in list(self.seen):
            self.seen |= below(number, processes) if processes.get(number, (0, ""))[1] == self.seen[number] else {}

    def ended(self) -> subprocess.Popen[bytes] | None:
        """The first that has ended, if any."""
        return next((process for process in self.started if process.poll() is not None), None)

    def stop(self, seconds: float = 10.0) -> None:
        """Ask all to end, and end by force what has not after so many seconds."""
        self.look()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for number in self._alive():
                try:
                    os.kill(number, sign)
                except ProcessLookupError:
                    continue
            end = time.monotonic() + seconds
            while self._alive() and time.monotonic() < end:
                self.look()
                time.sleep(0.2)
            if not self._alive():
                return

    def _alive(self) -> list[int]:
        for process in self.started:
            process.poll()
        processes = running()
        return [number for number, started in self.seen.items() if processes.get(number, (0, ""))[1] == started]


@contextmanager
def ends_in_order() -> Iterator[None]:
    """A request to end this process is taken as Ctrl-C is, so that what it started is stopped and taken away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def variables_set(values: dict[str, str]) -> Iterator[None]:
    """Variables for processes that are started within."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
