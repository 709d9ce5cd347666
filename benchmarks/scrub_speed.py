# SPDX-License-Identifier: Apache-2.0
"""How many mails a second ``reticent prepare --scrub surrogate`` scrubs, names included, and what a core gives.

The mails of FILE (one JSON object a line) in an order drawn anew, as many as ``--mails`` says. The command runs as a
user runs it, from start to end: reading, detectors, replacing, the second look for what was missed, writing, and
loading the model of names in each process.

================  ===================================================================================================
``mails_second``  mails over wall seconds, on so many cores as ``cores`` says
``mails_core``    mails over CPU seconds of all processes
``characters``    mean length of a mail: time grows in proportion to it
================  ===================================================================================================

    python benchmarks/scrub_speed.py FILE --text-field body --json benchmarks/results/scrub_speed.json
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from reticent.core.manifest import environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JSON lines, plain or .gz")
    parser.add_argument("--text-field", default="text")
    parser.add_argument("--mails", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args()
    texts = read(chosen.file, chosen.text_field)
    random.Random(chosen.seed).shuffle(texts)
    result = measured(texts[: chosen.mails]) | {"load_average": os.getloadavg()[0], "machine": environment()}
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "machine"}))


def read(file: Path, field: str) -> list[str]:
    held = file.read_bytes()
    lines = (gzip.decompress(held) if file.suffix == ".gz" else held).decode().strip("\n").split("\n")
    return [json.loads(line)[field] for line in lines]


def measured(texts: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "mails.jsonl"
        data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        command = ["prepare", str(data), "--out", f"{folder}/out.jsonl", "--scrub", "surrogate"]
        load = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "reticent", *command], check=True, stdout=sys.stderr)
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - load.ru_utime - load.ru_stime
    return {
        "mails": len(texts),
        "characters": statistics.mean(map(len, texts)),
        "cores": len(os.sched_getaffinity(0)),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "mails_second": len(texts) / seconds,
        "mails_core": len(texts) / cpu,
    }


if __name__ == "__main__":
    main()
