# SPDX-License-Identifier: Apache-2.0
"""Several processes on this machine: this one leads, and starts the others when there is something to share.

``python -m reticent.score.workers.spawned FOLDER [NUMBER]`` is one of them. It ends with the pipe that is its input,
so that none outlives the process that started it, however that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from reticent.core import hands
from reticent.core.progress import console
from reticent.score.workers.join import HelpingHand, JoinedWorker, meeting_folder
from reticent.score.workers.worker import WORKERS, Meeting, Worker

GRACE = 10.0
"""Seconds that a process has for the shard it is at when it is to end."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def spawned(meeting: Meeting) -> Iterator[Worker]:
    """Yield a worker of ``meeting.count`` processes, this one included, which share its threads."""
    before = torch.get_num_threads()
    threads = max(1, before // meeting.count)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        while len(started) < meeting.count - 1:
            started.append(_start(meeting.folder, threads, number=len(started) + 1))

    torch.set_num_threads(threads)
    try:
        with meeting_folder(meeting.folder):
            yield JoinedWorker(meeting.folder, start)
        _tell_of_ended(started, meeting.count)
    finally:
        torch.set_num_threads(before)
        _end(started)
        for place in (meeting.folder, meeting.folder.parent):
            with suppress(OSError):
                place.rmdir()


def _start(folder: Path, threads: int, *, number: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "reticent.score.workers.spawned", str(folder.resolve()), str(number)],
        env=os.environ | dict.fromkeys(THREADS, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _tell_of_ended(started: list[subprocess.Popen[bytes]], count: int) -> None:
    """Say which processes ended by themselves: their part was done, and slower than was asked for."""
    ended = [code for process in started if (code := process.poll()) is not None]
    if ended:
        codes = ", ".join(map(str, sorted(set(ended))))
        console.print(
            f"{len(ended)} of {count} workers ended early (exit code {codes}); the others did their part.",
            style="yellow",
            highlight=False,
        )


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    for process in started:
        with suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
    for process in started:
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def take_gpu(number: int) -> None:
    """Make ``"cuda"`` a GPU of this process's own, where there are as many.

    Args:
        number: of the process; 0 is the one that leads.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())


def main(folder: str, number: str = "1") -> int:
    """Help whoever leads in ``folder``, as process ``number``, until this process's input ends."""
    take_gpu(int(number))
    left = threading.Event()

    def watch() -> None:
        sys.stdin.buffer.read()
        left.set()
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=watch, name="input", daemon=True).start()
    console.quiet = True
    hand = HelpingHand(Path(folder))
    while not left.is_set():
        if not hand.help():
            left.wait(hands.PAUSE)
    return 0


if __name__ == "__main__":  # before it is added: a registry imports it once more by its name
    sys.exit(main(*sys.argv[1:]))

WORKERS.add("spawned", spawned)
