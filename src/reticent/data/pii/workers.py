# SPDX-License-Identifier: Apache-2.0
"""Other processes that run detectors: a model of names takes most of the time of `reticent prepare`, on one core.

Each is `reticent.data.pii.worker`, started anew: no state of the program that asks is copied, and its own script is
not run again. Texts and spans go through pipes, nothing is written to disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Self, TypeAlias

from reticent.data.pii.detector import DETECTORS, Candidate, Detector, SpanEvidence

Look: TypeAlias = Callable[[Sequence[str], Sequence[Detector]], list[list[Candidate]]]
"""``look(texts, detectors)``: candidates for each text."""

EACH = 200_000
"""Characters for which one more process is started: about two seconds of work, as many as a model takes to load."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Workers:
    """A context in which batches of texts are looked at by several processes, in order; by this one if it is alone.
    Processes load their models from its beginning on, so it is best entered before the texts are ready.

    Args:
        detectors: those that a new process knows by name run in each; others, such as patterns of one's own, in this.
        processes: how many to start; none are started for one.
    """

    def __init__(self, detectors: Sequence[Detector], *, processes: int) -> None:
        elsewhere = [detector for detector in detectors if processes > 1 and _known_elsewhere(detector)]
        self._here = [detector for detector in detectors if detector not in elsewhere]
        self._elsewhere = elsewhere
        self._count = processes if elsewhere else 0
        self._started: list[subprocess.Popen[str]] = []
        self._over = False

    def __enter__(self) -> Self:
        variables = os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        names = ",".join(detector.name for detector in self._elsewhere)
        for _ in range(self._count):
            self._started.append(
                subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-m", "reticent.data.pii.worker", names],
                    env=variables,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    encoding="utf-8",
                )
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over = True
        for process in self._started:
            if kind is not None:
                process.kill()
            process.communicate()

    def map(self, look: Look, batches: Sequence[Sequence[str]]) -> Iterator[list[list[Candidate]]]:
        """``look`` at each batch with all detectors. A batch whose process ended is looked at by this one."""
        if not self._count:
            yield from (look(batch, self._here) for batch in batches)
            return
        free: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        for worker in self._started:
            free.put(worker)

        def ask(batch: Sequence[str]) -> list[list[Candidate]]:
            process = free.get()
            try:
                candidates = _ask(process, batch)
            finally:
                free.put(process)
            if candidates is None:
                return [] if self._over else look(batch, self._elsewhere)
            return candidates

        pool = ThreadPoolExecutor(max_workers=self._count)
        try:
            for batch, elsewhere in zip(batches, pool.map(ask, batches), strict=True):
                here = look(batch, self._here) if self._here else [[] for _ in batch]
                yield [[*theirs, *mine] for theirs, mine in zip(elsewhere, here, strict=True)]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def enough(lengths: Sequence[int], detectors: Sequence[Detector]) -> int:
    """How many processes pay for texts of these lengths: a model takes seconds to load in each."""
    slow = any(detector.evidence is SpanEvidence.MODEL for detector in detectors)
    return max(1, min(_cores(), sum(lengths) // EACH)) if slow else 1


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _known_elsewhere(detector: Detector) -> bool:
    """True where a new process knows the same detector by its name: it is registered, in a module that is no script."""
    return (
        detector.name in DETECTORS
        and DETECTORS.get(detector.name) is detector
        and detector.find.__module__.startswith("reticent.")
    )


def _ask(process: subprocess.Popen[str], batch: Sequence[str]) -> list[list[Candidate]] | None:
    """None where the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(list(batch)) + "\n")  # ASCII: half a surrogate pair would not pass as UTF-8
        process.stdin.flush()
        line = process.stdout.readline()
    except (OSError, ValueError):
        line = ""
    if not line.endswith("\n"):
        return None
    return [
        [
            Candidate(start=a, end=b, kind=kind, evidence=SpanEvidence(rank), detector=by)
            for a, b, kind, rank, by in spans
        ]
        for spans in json.loads(line)
    ]
