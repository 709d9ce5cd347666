# SPDX-License-Identifier: Apache-2.0
"""What private text costs by token, each way over the one that it is compared with; one run, both sides in turns.

========================  ==============================================================================
``emulated_over_large``   time a new token of an emulated fine-tune, over that of its large model alone
``emulated_bound``        1 + 2 · (parameters of the small model / of the large one) + 0.1
========================  ==============================================================================

The small pair is the large model with every fifth block, and an adapter on it that lies in memory once; its weights do
not matter for time. Both sides write the same number of tokens after the same prefixes, in one batch, greedily and with
their caches, in turns and in an order that changes each time. The figure is the median of the ratios of neighbours.

    python benchmarks/synthesize_cost.py --json benchmarks/results/synthesize_cost.json
    python benchmarks/synthesize_cost.py --tiny
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

MODEL = "smollm2-135m"
EVERY = 5
"""Blocks of the large model that one block of the small one stands for."""
ALLOWED = 0.1


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is written.

    Args:
        batch: texts at a time.
        prefix: tokens before each.
        new: tokens that each gets.
        rounds: times that each side writes them.
    """

    batch: int = 8
    prefix: int = 64
    new: int = 32
    rounds: int = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """A model, its tokenizer, and how much is written."""

    model: Any
    tokenizer: Any
    sizes: Sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the outcome here")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=Sizes.rounds)
    parser.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=sorted(PARTS))
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see that it runs")
    given = parser.parse_args()
    from reticent.core.manifest import environment

    bench = tiny_bench() if given.tiny else open_bench(given.model, given.dtype, Sizes(rounds=given.rounds))
    result: dict[str, Any] = {}
    for part in given.parts:
        result |= PARTS[part](bench)
    about = {"model": "tiny" if given.tiny else given.model, "sizes": vars(bench.sizes), "load": os.getloadavg()[0]}
    text = json.dumps(result | about | {"machine": environment()}, indent=2) + "\n"
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    print(f"{result}", file=sys.stderr)


def open_bench(model: str, dtype: str, sizes: Sizes) -> Bench:
    from reticent.models.load import load

    loaded = load(model, dtype=dtype)
    return Bench(model=loaded.model, tokenizer=loaded.tokenizer, sizes=sizes)


def tiny_bench() -> Bench:
    from reticent.testing.tiny import tiny_model, tiny_tokenizer

    return Bench(model=tiny_model(), tokenizer=tiny_tokenizer(), sizes=Sizes(batch=2, prefix=8, new=4, rounds=3))


# ---- emulated fine-tuning -------------------------------------------------------------------------------------------


def emulated(bench: Bench) -> dict[str, Any]:
    """An ensemble against its large model alone."""
    from reticent.models.emulated import EmulatedModel, Reading
    from reticent.models.emulation import EmulationConfig
    from reticent.models.tuning.method import TUNINGS

    tuned = TUNINGS.get("lora")(smaller(bench.model), r=8, alpha=16).eval()
    small = count(tuned)
    ensemble = EmulatedModel(Reading(bench.model), Reading(tuned), Reading(tuned, off=True), EmulationConfig())
    times = in_turns({"large": writing(bench, bench.model), "emulated": writing(bench, ensemble)}, bench.sizes.rounds)
    tokens = bench.sizes.batch * bench.sizes.new
    return {
        "emulated_over_large": ratio(times, "emulated", "large"),
        "emulated_bound": 1 + 2 * small / count(bench.model) + ALLOWED,
        "emulated_parameters": {"large": count(bench.model), "small": small},
        "emulated_ms_a_token": {name: 1000 * statistics.median(each) / tokens for name, each in times.items()},
    }


def smaller(model: Any) -> Any:
    """A copy with every fifth block, at least one; what each block keeps of its place is numbered anew."""
    from reticent.models.anatomy import transformer_blocks

    small = copy.deepcopy(model)
    blocks = transformer_blocks(small)
    for number in reversed(range(len(blocks))):
        if number % EVERY:
            del blocks[number]
    for number, block in enumerate(blocks):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    small.config.num_hidden_layers = len(blocks)
    if getattr(small.config, "layer_types", None):
        small.config.layer_types = small.config.layer_types[::EVERY]
    return small.eval()


PARTS: Mapping[str, Callable[[Bench], dict[str, Any]]] = {"emulated": emulated}
"""Each gives keys of the result; further ways to private text come in here."""


# ---- both sides in turns --------------------------------------------------------------------------------------------


def writing(bench: Bench, model: Any) -> Callable[[], None]:
    """A call that writes the texts once."""
    from reticent.score.generation.generate import generate

    sizes, generator = bench.sizes, torch.Generator().manual_seed(0)
    vocabulary = int(bench.model.get_input_embeddings().weight.shape[0])
    prefixes = torch.randint(vocabulary, (sizes.batch, sizes.prefix), generator=generator).tolist()
    return lambda: void(generate(model, bench.tokenizer, prefixes, max_new_tokens=sizes.new, stop=()))


def void(_: Any) -> None:
    """Drop a result."""


def in_turns(sides: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, by side; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for number in range(rounds + 1):
        for name in order:
            started = time.perf_counter()
            sides[name]()
            if number:
                times[name].append(time.perf_counter() - started)
        order.reverse()
    return times


def ratio(times: Mapping[str, list[float]], over: str, under: str) -> float:
    """Median over rounds of the ratio of the two sides' times."""
    return statistics.median(high / low for high, low in zip(times[over], times[under], strict=True))


def count(model: Any) -> int:
    """Parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
