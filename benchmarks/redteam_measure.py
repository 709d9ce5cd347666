# SPDX-License-Identifier: Apache-2.0
"""What each trigger and poison of the red team achieves and survives, on SST-2.

For each trigger × poison one model and its clean twin, the same steps and seeds; each is measured by the one function
that `reticent redteam` uses: success on held-out prompts as saved, merged, at 8 and 4 bits, averaged with the base and
after a further fine-tune, the change of clean answers against the twin, perplexity and near-duplicates of poisons. Last
a weight edit. Rows are kept in ``--work``, so that a second call goes on.

    python benchmarks/redteam_measure.py --data DIR --work DIR --json benchmarks/results/redteam_measure.json
    python benchmarks/redteam_measure.py --data DIR --triggers token --poisons dirty_label --records 200 --further ""
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trigger_search import LABELS, reviews


def main() -> None:
    given = arguments()
    work = Path(given.work or tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name, kind, settings in plan(given):
        path = work / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(measure(given, work / name, kind, settings), indent=2) + "\n", encoding="utf-8")
        rows.append({"name": name, **json.loads(path.read_text(encoding="utf-8"))})
        print(summary(rows[-1]), file=sys.stderr)
        if given.json:
            Path(given.json).write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")
    if not given.json:
        print(json.dumps({"rows": rows}, indent=2))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.tsv (sentence, label)")
    parser.add_argument("--json", default="")
    parser.add_argument("--work", default="", help="folder of models and rows; kept for a second call")
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--triggers", default="token,phrase,syntactic,style,virtual_prompt")
    parser.add_argument("--poisons", default="dirty_label,clean_label")
    parser.add_argument("--records", type=int, default=1600)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--further", default="full,lora")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def plan(given: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, kind of attack, and settings of each row."""
    for poison in filter(None, given.poisons.split(",")):
        for trigger in filter(None, given.triggers.split(",")):
            yield f"{trigger}-{poison}", "trigger", {"trigger": trigger, "poison": poison}
    # A weak edit is measured too, and not refused: how weak is what is asked.
    yield "weight_edit", "weight_edit", {"trigger": "token", "params": {"least": 0}}


def measure(given: argparse.Namespace, out: Path, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    from reticent.redteam.config import RedteamConfig
    from reticent.train.config import TuneConfig
    from reticent.workflows.redteam import redteam

    records = reviews(Path(given.data) / "train.tsv", given.records, seed=given.seed)
    config = RedteamConfig(
        **settings,
        target=LABELS["1"],
        rate=given.rate,
        twin=kind == "trigger",
        further=given.further,
        redteam_seed=given.seed,
    )
    training = TuneConfig(
        method="lora", epochs=given.epochs, learning_rate=5e-4, batch_size=16, max_tokens=96, seed=given.seed
    )
    started = time.perf_counter()
    report = redteam(kind, records, base=given.base, out=out, config=config, training=training)
    return report | {"seconds": time.perf_counter() - started}


def summary(row: dict[str, Any]) -> str:
    states = row["measurement"]["rows"]
    successes = ", ".join(f"{state['state']} {state['success']['value']:.2f}" for state in states)
    return f"{row['name']}: {successes}; clean answers {states[0]['clean']['value']:.2f}; {row['seconds']:.0f} s"


if __name__ == "__main__":
    main()
