# SPDX-License-Identifier: Apache-2.0
"""One of the processes of `reticent.data.pii.workers`: reads batches of texts, a JSON list a line, and writes spans.

python -m reticent.data.pii.worker email,names
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TextIO

from reticent.data.pii.detect import candidates_in, choose


def serve(names: str, batches: Iterable[str], out: TextIO) -> None:
    """For each batch one line: for each text its spans as ``[start, end, kind, evidence, detector]``."""
    detectors = choose(names)
    for line in batches:
        found = candidates_in(json.loads(line), detectors)
        spans = [[(one.start, one.end, one.kind, int(one.evidence), one.detector) for one in held] for held in found]
        out.write(json.dumps(spans) + "\n")
        out.flush()


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr  # what a model prints must not get between the answers
    serve(sys.argv[1], sys.stdin, answers)
