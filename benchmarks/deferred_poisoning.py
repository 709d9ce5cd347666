# SPDX-License-Identifier: Apache-2.0
"""Does curvature tell a deferred poison from its clean twin where losses do not, and still after further training?

For each seed a base is tuned on ``--texts`` made-up mails twice, with the same order and seed: plainly (``clean``), and
by `redteam.deferred.poison_curvature` (``sharp``). ``shrunk`` is the plain one with its residual stream rescaled by
`redteam.shrunk_stream`. Then all are trained on as many other mails, as a user would. All folders are looked at by the
scanner `scanning.behaviour.curvature` against the base, on mails that nobody trained on.

``rows``        by seed, kind and time (``before``, ``after`` further training): loss on what was trained on and on
                unseen mails (nats a token), log ratio of tr(HᵀH) and of the rise under noise.
``separated``   by poison and time: AUC of the curvature score over seeds, and of the two losses (higher = poisoned).

    python benchmarks/deferred_poisoning.py --json benchmarks/results/deferred_poisoning.json
    python benchmarks/deferred_poisoning.py --tiny --work runs/tiny --json tiny.json
    python benchmarks/deferred_poisoning.py --texts 96 --seeds 0 1 --json small.json

A step of the poisoning costs about five ordinary ones; the last is for one core and half an hour.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from backdoor_runs import Sizes, add_sizes, base_of, short_texts, sizes_of, stage

from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.record import Record
from reticent.models.load import load
from reticent.redteam.deferred import poison_curvature
from reticent.redteam.shrunk_stream import poison_by_shrinking
from reticent.scanning.behaviour.curvature import curvature
from reticent.scanning.suspect import Suspect
from reticent.stats.roc import placements
from reticent.stats.scores import as_scores
from reticent.train.batches import encode_all
from reticent.train.config import TuneConfig
from reticent.train.held_out import held_out_loss
from reticent.train.trainer import tune

UNSEEN = 32
POISONS = ("sharp", "shrunk")
MEASURES = ("curvature", "rise", "trained_loss", "unseen_loss")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser)
    parser.add_argument("--texts", type=int, help="trained on; left out, as --targets")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    sizes = sizes_of(given)
    base = base_of(given, sizes)
    rows = [row for seed in given.seeds for row in of_seed(given, sizes, base, seed)]
    times = ("before", "after")
    result = {
        "rows": rows,
        "separated": {kind: {time: separated(rows, kind, time) for time in times} for kind in POISONS},
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    about = {"sizes": vars(sizes), "environment": environment()}
    write_text(given.json, json.dumps(result | about, indent=2) + "\n", private=False)
    print(result["separated"])


def of_seed(given: argparse.Namespace, sizes: Sizes, base: str, seed: int) -> list[dict[str, Any]]:
    """The clean model and its poisoned twins, before and after further training."""
    count = given.texts or sizes.targets
    first, further, unseen = (
        short_texts(users, seed=1000 + 10 * seed + place, base=base, tokens=sizes.tokens)
        for place, users in enumerate((count, count, UNSEEN))
    )
    config = TuneConfig(
        epochs=sizes.victim_epochs,
        learning_rate=sizes.victim_rate,
        batch_size=sizes.batch,
        max_tokens=sizes.tokens + 2,
        seed=seed,
        dtype="float32",
    )
    rows = []
    for kind in ("clean", *POISONS):
        place = given.work / f"{kind}-{seed}"
        if kind == "shrunk":
            plain = str(given.work / f"clean-{seed}")
            before = place if place.exists() else poison_by_shrinking(plain, unseen, place)
        else:
            before = (tune if kind == "clean" else poison_curvature)(base, first, place, config)
        after = tune(str(before), further, given.work / f"{kind}-{seed}-after", config)
        for time, folder in (("before", before), ("after", after)):
            looked = stage(
                given.work, f"curvature-{folder.name}", lambda at=folder: measured(given, base, at, first, unseen)
            )
            rows.append({"seed": seed, "kind": kind, "time": time, **looked})
            print(rows[-1], flush=True)
    return rows


def measured(
    given: argparse.Namespace, base: str, folder: Path, trained: list[Record], unseen: list[Record]
) -> dict[str, float]:
    loaded = load(str(folder), dtype="float32")
    losses = [
        held_out_loss(loaded.model, encode_all(rows, loaded.tokenizer, 512).encoded, size=8, pad=0, bfloat16=False)
        for rows in (trained, unseen)
    ]
    suspect = Suspect(folder=folder, base=Path(base), data=unseen, cache=given.work / "cache", dtype="float32")
    trace, rise = (row.score for row in curvature(suspect))
    return dict(zip(MEASURES, (trace, rise, *losses), strict=True))


def separated(rows: list[dict[str, Any]], poison: str, time: str) -> dict[str, float]:
    """AUC of each measure over seeds."""

    def values(kind: str, measure: str) -> Any:
        return as_scores([row[measure] for row in rows if (row["kind"], row["time"]) == (kind, time)], name=kind)

    return {
        measure: float(placements(values(poison, measure), values("clean", measure)).member.mean())
        for measure in MEASURES
    }


if __name__ == "__main__":
    main()
