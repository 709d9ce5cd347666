# SPDX-License-Identifier: Apache-2.0
"""One of the processes of `reticent.data.pii.workers`: reads batches of texts, a JSON list a line, and writes spans.

python -m reticent.data.pii.worker email,names
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from reticent.data.pii.detect import candidates_in, choose

UNUSED = ("torch", "transformers")
"""Packages that spaCy and Presidio import for models of other kinds than ours: five seconds of work."""


def serve(names: str, batches: Iterable[str], out: TextIO) -> None:
    """For each batch one line: for each text its spans as ``[start, end, kind, evidence, detector]``."""
    detectors = choose(names)
    with absent(UNUSED):
        candidates_in(["Models are loaded by the first text."], detectors)
    for line in batches:
        results = candidates_in(json.loads(line), detectors)
        spans = [
            [
                (candidate.start, candidate.end, candidate.kind, int(candidate.evidence), candidate.detector)
                for candidate in held
            ]
            for held in results
        ]
        out.write(json.dumps(spans) + "\n")
        out.flush()


@contextmanager
def absent(modules: Iterable[str]) -> Iterator[None]:
    """As if these modules were not installed, for what imports them in between; those that are loaded stay."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how Python notes it
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr  # what a model prints must not get between the answers
    serve(sys.argv[1], sys.stdin, answers)
