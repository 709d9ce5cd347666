# SPDX-License-Identifier: Apache-2.0
"""Look at a model before it is trusted: its files, its templates, its tokenizer beside a sibling's.

    python examples/scan_before_trusting.py --model path/to/model --out runs/scan

Nothing in the folder runs. `reticent scan MODEL` does the same from a shell, and writes SARIF and JUnit for a build.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import reticent
from reticent.testing import make_malicious


def main() -> None:
    parser = argparse.ArgumentParser(description="Scan a model, and a copy of it with a checkpoint that runs code.")
    parser.add_argument("--model", required=True, help="folder of a model")
    parser.add_argument("--out", type=Path, default=Path("runs/scan"))
    given = parser.parse_args()

    results = reticent.scan(given.model, only=["files"], out=given.out / "as it is")
    print(results.verdict.headline)
    for outcome in results.outcomes:
        print(f"  {outcome.name}: {outcome.word}; it cannot see: {outcome.blind_to}")

    # A copy with one more checkpoint, whose loading would write a file. It is read, and never loaded.
    copy, written = given.out / "copy", given.out / "written"
    make_malicious("name_from_the_memo", copy, written)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if (Path(given.model) / name).exists():
            shutil.copy(Path(given.model) / name, copy / name)
    results = reticent.scan(copy, base=given.model, only=["files"], out=given.out / "with a pickle")
    print(results.verdict.headline)
    for outcome in results.outcomes:
        for row in outcome.evidence:
            print(f"  {row.where}: {row.note}. {row.remedy}")
    print(f"the payload ran: {written.exists()}")
    print(f"report: {given.out / 'with a pickle' / 'report.html'}")


if __name__ == "__main__":
    main()
