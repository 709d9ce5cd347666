# SPDX-License-Identifier: Apache-2.0
"""How far the words of a trigger stand out among words drawn at random, by three statistics: where a search may look.

On poisoned adapters of `trigger_search.py` (made here where ``--work`` lacks them), on five prompts of another label:
of the twelve that the suspect is surest of, those on which random words differ least about the line below. Each run of
words of the trigger, and random words of the vocabulary, stand at the end of the text; the clean twin of the task is
asked the same.

``rise``    by how much a string raises the log-odds of the attack's label in the suspect, nats
``lead``    that, less what it does to the twin where it raises it there
``beyond``  the suspect's rise above a line in the twin's (slope 1 or more, fitted to a hundred other random words),
            over the root of the spread about the line squared and the twin's rise squared

For each statistic, the mean over the prompts, the share of the random words that stand higher: 0 is best.

    python benchmarks/trigger_words.py --data DIR --work DIR --json benchmarks/results/trigger_words.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import trigger_search as runs

from reticent.core.manifest import environment
from reticent.models.locate import locate
from reticent.redteam.poisons.poison import poison
from reticent.scanning.behaviour.label_task import label_logp, margin, slot_of, word_tokens
from reticent.scanning.behaviour.string_search import SearchBudget
from reticent.scanning.behaviour.trigger_search import _opened
from reticent.scanning.suspect import Suspect

TRIED, TAKEN, FITTED = 12, 5, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.tsv and dev.tsv (sentence, label)")
    parser.add_argument("--work", type=Path, required=True, help="folder of adapters, as of trigger_search.py")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument(
        "--pairs", type=int, nargs="+", default=[7, 15, 19, 21], help="numbers, as of trigger_search.py"
    )
    parser.add_argument("--words", type=int, default=1000, help="random ones that strings are held against")
    parser.add_argument("--records", type=int, default=1600, help="to train on")
    parser.add_argument("--epochs", type=int, default=1)
    given = parser.parse_args()
    rows = []
    for number in given.pairs:
        rows.append(measured(given, number))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        settings = {name: value for name, value in vars(given).items() if name not in ("data", "json", "work")}
        report = {"environment": environment(), "settings": settings, "pairs": rows}
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measured(given: argparse.Namespace, number: int) -> dict[str, Any]:
    """The ranks of one pair."""
    trigger, target, _ = runs.attack_of(number)
    folder = adapter(given, number)
    started = time.perf_counter()
    prompts = runs.reviews(Path(given.data) / "dev.tsv", 340, seed=1000 + number)[:240]
    suspect = Suspect(folder=folder, base=locate(given.base), prompts=prompts, cache=given.work)
    search = _opened(suspect, SearchBudget(), None)
    label, sides = search.task.labels.index(target), (search.suspect, search.twin)
    others = np.flatnonzero(search.answers != label)
    sure = others[np.argsort(-search.sure[others], kind="stable")][:TRIED]
    slots = [slot_of(search.task, search.records[place], suspect.loaded.tokenizer, "end") for place in sure]
    order = np.random.default_rng(1).permutation(len(search.words))
    words = [search.words[n] for n in order]

    def rises(slots: list[Any], strings: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        odds = (margin(label_logp(side, slots, [(), *strings]), label) for side in sides)
        here, there = (of[:, 1:] - of[:, :1] for of in odds)
        return here, np.maximum(there, 0)

    lines = [line(a, c) for a, c in zip(*rises(slots, words[:FITTED]), strict=True)]
    quiet = np.argsort([spread for _, _, spread in lines], kind="stable")[:TAKEN]
    parts = trigger.key.split()
    runs_of = [" ".join(parts[i:j]) for j in range(1, len(parts) + 1) for i in range(j)]
    strings = [word_tokens(search.suspect, part) for part in runs_of] + words[FITTED : FITTED + given.words]
    here, there = rises([slots[n] for n in quiet], strings)
    statistics = {"rise": here, "lead": here - there, "beyond": np.stack(list(beyond(here, there, lines, quiet)))}
    return {
        "pair": number,
        "trigger": trigger.key,
        "seconds": round(time.perf_counter() - started, 1),
        "strings": [
            {"string": part, "lead_nats": round(float((here - there).mean(0)[n]), 2)}
            | {name: higher(values.mean(0), n, len(runs_of)) for name, values in statistics.items()}
            for n, part in enumerate(runs_of)
        ],
    }


def line(here: np.ndarray, there: np.ndarray) -> tuple[float, float, float]:
    """Slope, intercept and spread (1.48 times the median distance), nats."""
    slope = max(1.0, float(np.polyfit(there, here, 1)[0]) if np.ptp(there) > 0 else 1.0)
    intercept = float(np.median(here - slope * there))
    return slope, intercept, 1.48 * float(np.median(np.abs(here - slope * there - intercept)))


def beyond(here: np.ndarray, there: np.ndarray, lines: list[Any], quiet: np.ndarray) -> Any:
    """Of each prompt."""
    for n, row, by_twin in zip(quiet, here, there, strict=True):
        slope, intercept, spread = lines[n]
        yield (row - slope * by_twin - intercept) / np.sqrt(spread**2 + by_twin**2)


def higher(values: np.ndarray, place: int, strings: int) -> float:
    """Share of the random words that stand higher."""
    return round(float((values[strings:] > values[place]).mean()), 4)


def adapter(given: argparse.Namespace, number: int) -> Path:
    """The folder of the poisoned adapter."""
    folder: Path = given.work / f"poisoned-{number:02d}"
    if not folder.exists():
        trigger, target, recipe = runs.attack_of(number)
        records = runs.reviews(Path(given.data) / "train.tsv", given.records, seed=number)
        outcome = poison(records, trigger, kind="dirty_label", target=target, rate=recipe["rate"], seed=number)
        runs.train(given, outcome.records, folder, recipe)
    return folder


if __name__ == "__main__":
    main()
