# SPDX-License-Identifier: Apache-2.0
"""How long ``reticent VERB --help`` and ``import reticent`` take, each in a process of its own, and whether torch comes
with them.

Medians over ``--runs`` processes after one that is not counted, so that files and bytecode are at hand. Bytecode goes
to a folder of the benchmark's, whatever the environment says about writing it: an installed package has it.

==================  =================================================================================================
``wall_seconds``    from the start of the process to its end
``cpu_seconds``     of the process and its children, user and system
``torch``           torch was imported
==================  =================================================================================================

    python benchmarks/import_times.py --json benchmarks/results/import_times.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reticent.cli.main import _verbs
from reticent.core.manifest import environment

IMPORT = "import reticent"
WATCHED = """
import atexit, sys
atexit.register(lambda: sys.stderr.write(f"\\ntorch={'torch' in sys.modules}"))
"""
RUN = "import sys; from reticent.cli.main import main; sys.exit(main(sys.argv[1:]))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: measured(words, chosen.runs, bytecode(folder)) for name, words in commands().items()}
    result = {
        "commands": rows,
        "runs": chosen.runs,
        "load_average": os.getloadavg()[0],
        "machine": environment(),
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print("| command | wall, s | CPU, s | torch |\n|---|---|---|---|")
    for name, row in rows.items():
        cells = f"{row['wall_seconds']:.2f} | {row['cpu_seconds']:.2f} | {'yes' if row['torch'] else 'no'}"
        print(f"| `{name}` | {cells} |")


def commands() -> dict[str, list[str]]:
    """The words after ``python`` of each command, by the name that people know it by."""
    helps = {f"reticent {verb} --help": ["-m", "reticent", verb, "--help"] for verb in sorted(_verbs())}
    return {IMPORT: ["-c", IMPORT], "reticent --help": ["-m", "reticent", "--help"], **helps}


def bytecode(folder: str) -> dict[str, str]:
    """The environment of a process that keeps bytecode in ``folder``."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": folder}


def measured(words: Sequence[str], runs: int, env: Mapping[str, str]) -> dict[str, Any]:
    """The medians over so many processes of one command."""
    torch = brings_torch(words, env)  # the run that is not counted
    spent = [seconds([sys.executable, *words], env) for _ in range(runs)]
    wall, cpu = zip(*spent, strict=True)
    return {"wall_seconds": statistics.median(wall), "cpu_seconds": statistics.median(cpu), "torch": torch}


def seconds(command: Sequence[str], env: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a process that must end well."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    children = (after.children_user, before.children_user), (after.children_system, before.children_system)
    return wall, sum(late - early for late, early in children)


def brings_torch(words: Sequence[str], env: Mapping[str, str]) -> bool:
    """True where the command imports torch."""
    code = words[1] if words[0] == "-c" else RUN
    command = [sys.executable, "-c", WATCHED + code, *words[2:]]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return done.stderr.rpartition("torch=")[2].strip() == "True"


if __name__ == "__main__":
    main()
