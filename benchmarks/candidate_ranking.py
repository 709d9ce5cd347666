# SPDX-License-Identifier: Apache-2.0
"""How much faster candidates for one place are ranked when what precedes them is read once for all.

For each target, its true value and other values of the same kind (100 in all) are put in its place and ranked by log p:

=========  ==========================================================================================================
``tree``   the product: `reticent.score.candidates.rank`, the common tokens once, what differs as one tree
``whole``  every candidate's text from its first token on, by the product's scoring engine: texts of like length in
           batches, output layer and statistics only where they are asked for. This is the stricter opponent: one call
           of the model for each text, with logits at every token, takes longer
=========  ==========================================================================================================

Both tokenise the same texts, and that is in the time. ``cpu_seconds`` is processor time, which hardly feels a busy
machine. They take turns target by target. ``speedup`` is the sum of
seconds of ``whole`` over that of ``tree``, the smallest over the types. ``same_ranks``: in float32, all candidates of
all targets come in the same order, but for pairs that are closer than 1e-4 nats. In bfloat16 log p of the two ways lies
tenths of a nat apart, so close candidates change places: the rows say how many.

With ``--data`` targets are read from lines of JSON with ``prompt`` and ``target`` (the value that follows the prompt);
without, they are e-mail addresses and names of the made-up help desk.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

CLOSE = 1e-4
TARGET = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--data", type=Path, help="lines of JSON with prompt and target")
    parser.add_argument("--model", default="smollm2-135m", help="catalogue name, folder or hub id")
    parser.add_argument("--targets", type=int, default=6)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--longest", type=int, default=800, help="characters of a prompt that are kept, from its end")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    result = compare(given)
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=2))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def compare(given: argparse.Namespace) -> dict[str, Any]:
    import torch

    from reticent.core.manifest import environment

    rows = [measure(given, dtype) for dtype in given.dtypes.split(",")]
    exact = [row["same_ranks"] for row in rows if row["dtype"] == "float32"]
    return {
        "speedup": min(row["speedup"] for row in rows),
        "same_ranks": all(exact) if exact else None,
        "target": TARGET,
        "data": "JSONL given" if given.data else "made-up help desk",
        "targets": given.targets,
        "candidates": given.candidates,
        "model": given.model,
        "threads": torch.get_num_threads(),
        "hardware": environment(),
        "rows": rows,
    }


def measure(given: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """All targets in one type, by both ways."""
    from reticent.models.load import load
    from reticent.score.candidates.masked import fill
    from reticent.score.candidates.memory import steady_heap
    from reticent.score.candidates.rank import score_candidates
    from reticent.score.engine import ScoreOptions, open_engine

    loaded = load(given.model, dtype=dtype, device="cpu")
    engine = open_engine(loaded.model, given.model, ScoreOptions())
    blanks, truth = questions(given)
    seconds: dict[str, list[float]] = {"tree": [], "whole": []}
    cpu_seconds = {"tree": 0.0, "whole": 0.0}
    found: dict[str, list[Any]] = {"tree": [], "whole": []}
    with steady_heap():
        score_candidates(engine, loaded.tokenizer, blanks[:1], impl="tree")  # warm
        for number, blank in enumerate(blanks):
            for impl in ("tree", "whole") if number % 2 else ("whole", "tree"):
                start, cpu = time.perf_counter(), time.process_time()
                found[impl] += score_candidates(engine, loaded.tokenizer, [blank], impl=impl)
                seconds[impl].append(time.perf_counter() - start)
                cpu_seconds[impl] += time.process_time() - cpu
            print(
                f"{dtype}, target {number + 1}: {seconds['tree'][-1]:.2f} s, {seconds['whole'][-1]:.2f} s", flush=True
            )
    filled = [fill(blank, loaded.tokenizer, window=engine.choices.window) for blank in blanks]
    return {
        "dtype": dtype,
        "speedup": sum(seconds["whole"]) / sum(seconds["tree"]),
        "speedup_of_each": [slow / fast for slow, fast in zip(seconds["whole"], seconds["tree"], strict=True)],
        "seconds": {impl: sum(times) for impl, times in seconds.items()},
        "cpu_seconds": cpu_seconds,
        "common_tokens": [text.common for text in filled],
        "tokens_of_candidates": [sum(len(row) - text.common for row in text.rows) for text in filled],
        **agreement(found["tree"], found["whole"], truth),
    }


def agreement(tree: list[Any], whole: list[Any], truth: list[int]) -> dict[str, Any]:
    """How far the two ways agree on order, rank of the true value and log p."""
    same_order, swapped, pairs, worst = [], 0, 0, 0.0
    ranks: dict[str, list[int]] = {"tree": [], "whole": []}
    for fast, slow, place in zip(tree, whole, truth, strict=True):
        apart = slow.logp[:, None] - slow.logp[None, :]
        turned = (np.sign(apart) != np.sign(fast.logp[:, None] - fast.logp[None, :])) & (apart > 0)
        same_order.append(not (turned & (apart > CLOSE)).any())
        swapped += int(turned.sum())
        pairs += len(fast.logp) * (len(fast.logp) - 1) // 2
        worst = max(worst, float(np.abs(fast.logp - slow.logp).max()))
        for name, one in (("tree", fast), ("whole", slow)):
            ranks[name].append(int((one.logp > one.logp[place]).sum()) + 1)
    same_rank = [mine == theirs for mine, theirs in zip(ranks["tree"], ranks["whole"], strict=True)]
    return {
        "same_ranks": all(same_order) and all(same_rank),
        "targets_with_same_order": sum(same_order),
        "targets_with_same_rank_of_truth": sum(same_rank),
        "largest_difference_of_ranks_of_truth": max(abs(a - b) for a, b in zip(*ranks.values(), strict=True)),
        "pairs_that_change_places": swapped / pairs,
        "largest_difference_of_logp": worst,
    }


def questions(given: argparse.Namespace) -> tuple[list[Any], list[int]]:
    """A blank for each target with the true value among its candidates, and where it is among them."""
    from reticent.core.record import Record
    from reticent.score.candidates.masked import MaskedSpan

    rng = random.Random(given.seed)
    pairs = from_file(given.data) if given.data else from_help_desk()
    pairs = [pair for pair in pairs if len(pair[2]) >= given.candidates]
    if len(pairs) < given.targets:
        raise SystemExit(f"only {len(pairs)} targets have {given.candidates} values of their kind; ask for fewer")
    rng.shuffle(pairs)
    blanks, truth = [], []
    for whole, value, others in pairs[: given.targets]:
        prompt = whole if len(whole) <= given.longest else whole[whole.find(" ", len(whole) - given.longest) + 1 :]
        drawn = rng.sample(sorted(others - {value}), given.candidates - 1)
        place = rng.randrange(given.candidates)
        drawn.insert(place, value)
        record = Record(id=f"target {len(blanks)}", text=prompt + value)
        blanks.append(MaskedSpan(record=record, start=len(prompt), end=len(record.plain), candidates=tuple(drawn)))
        truth.append(place)
    return blanks, truth


def from_file(path: Path) -> list[tuple[str, str, set[str]]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    values = {row["target"] for row in rows if row["target"].strip()}
    return [(row["prompt"], row["target"], values) for row in rows if row["prompt"].strip() and row["target"] in values]


def from_help_desk() -> list[tuple[str, str, set[str]]]:
    from reticent.data.example import help_desk

    records = help_desk(users=600, mails_per_user=3)
    values: dict[str, set[str]] = {}
    for record in records:
        for span in record.spans:
            values.setdefault(span.kind, set()).add(record.plain[span.start : span.end])
    return [
        (record.plain[: span.start], record.plain[span.start : span.end], values[span.kind])
        for record in records
        for span in record.spans[-1:]
        if span.start and span.kind in ("PERSON", "EMAIL")
    ]


if __name__ == "__main__":
    main()
