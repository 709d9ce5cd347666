# SPDX-License-Identifier: Apache-2.0
"""What private text costs by token, each way over the one that it is compared with; one run, all sides in turns.

======================================  ================================================================================
``private_prediction_over_sampling``    one text with eight references, over one text by ordinary sampling
``invink_over_ours``                    the same text by the published package (``--invink FOLDER`` says where it lies),
                                        over ours; ``invink_is`` says what it was, a stand-in where it does not install
``evolution_over_sampling``             texts by private evolution, all rounds, over ordinary sampling of as many
``emulated_over_large``                 a new token of an emulated fine-tune, over that of its large model alone
``emulated_bound``                      1 + 2 · (parameters of the small model / of the large one) + 0.1
======================================  ================================================================================

A time is that of the whole call, reading of the prompts included, and all texts but those of private evolution get
the same number of tokens, whatever token would end them. The small pair of the ensemble is the large model with every
fifth block, and an adapter on it that lies in memory once; its weights do not matter for time. All sides write in turns
and in an order that changes each round; the figure is the median of the ratios of one round. With ``--work FILE`` each
round is kept when it is done, and the same command again goes on with those that are missing.

The package's 0.1.0 has an f-string that Python reads from 3.12 on (``utils.py``, line 349, a message): under 3.11 put
the plain ``{device_map}`` there, in the folder that ``--invink`` names.

    python benchmarks/synthesize_cost.py --work /tmp/costs.jsonl --json benchmarks/results/synthesize_cost.json
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
        references: private texts behind one text of private prediction.
        read: tokens of each private text.
    """

    batch: int = 8
    prefix: int = 64
    new: int = 32
    rounds: int = 7
    references: int = 8
    read: int = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """A model, its tokenizer, how much is written, and where the published package lies."""

    model: Any
    tokenizer: Any
    sizes: Sizes
    invink: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Sides that are compared with each other.

    Args:
        sides: by name a call that writes once.
        figures: keys of the outcome, of the seconds of each side by round.
    """

    sides: Mapping[str, Callable[[], None]]
    figures: Callable[[Mapping[str, list[float]]], dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the outcome here")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=Sizes.rounds)
    parser.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=sorted(PARTS))
    parser.add_argument("--invink", default="", help="folder with the published package (pip install --target)")
    parser.add_argument("--work", type=Path, help="file of the rounds that are done; the same command again goes on")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see that it runs")
    given = parser.parse_args()
    from reticent.core.manifest import environment

    sizes = Sizes(rounds=given.rounds)
    bench = tiny_bench(given.invink) if given.tiny else open_bench(given.model, given.dtype, sizes, given.invink)
    parts = [PARTS[name](bench) for name in given.parts]
    about = {"model": "tiny" if given.tiny else given.model, "dtype": given.dtype, "sizes": vars(bench.sizes)}
    sides = {name: side for part in parts for name, side in part.sides.items()}
    times = in_turns(sides, bench.sizes.rounds, work=given.work, about={**about, "sides": sorted(sides)})
    result: dict[str, Any] = {}
    for part in parts:
        result |= part.figures(times)
    text = json.dumps(result | about | {"load": os.getloadavg()[0], "machine": environment()}, indent=2) + "\n"
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    print(f"{result}", file=sys.stderr)


def open_bench(model: str, dtype: str, sizes: Sizes, invink: str) -> Bench:
    from reticent.models.load import load

    loaded = load(model, dtype=dtype)
    return Bench(model=loaded.model, tokenizer=loaded.tokenizer, sizes=sizes, invink=invink)


def tiny_bench(invink: str = "") -> Bench:
    from reticent.testing.tiny import tiny_model, tiny_tokenizer

    sizes = Sizes(batch=2, prefix=8, new=4, rounds=3, references=3, read=8)
    return Bench(model=tiny_model(), tokenizer=tiny_tokenizer(), sizes=sizes, invink=invink)


# ---- synthetic text --------------------------------------------------------------------------------------------------


def prediction(bench: Bench) -> Part:
    """One text by private prediction: against one text by sampling, and the published package against ours."""
    from synthesize_cost_sides import predicting, published, references, sampling

    sizes, model, tokenizer = bench.sizes, bench.model, bench.tokenizer
    texts = references(tokenizer, count=sizes.references, tokens=sizes.read)
    invink, name = published(model, tokenizer, texts, new=sizes.new, folder=bench.invink)

    def figures(times: Mapping[str, list[float]]) -> dict[str, Any]:
        return {
            "private_prediction_over_sampling": ratio(times, "private_prediction", "sampling"),
            "invink_over_ours": ratio(times, "invink", "private_prediction"),
            "invink_is": name,
            "prediction_ms_a_token": {
                side: 1000 * statistics.median(times[side]) / sizes.new
                for side in ("sampling", "private_prediction", "invink")
            },
        }

    ours = predicting(model, tokenizer, texts, new=sizes.new, tokens=sizes.read)
    one = sampling(model, tokenizer, texts=1, new=sizes.new)
    return Part(sides={"sampling": one, "private_prediction": ours, "invink": invink}, figures=figures)


def evolution(bench: Bench) -> Part:
    """Texts by private evolution against ordinary sampling of as many."""
    from synthesize_cost_sides import evolving, sampling

    sizes = bench.sizes
    sides = {
        "sampling_batch": sampling(bench.model, bench.tokenizer, texts=sizes.batch, new=sizes.new),
        "private_evolution": evolving(
            bench.model, bench.tokenizer, texts=sizes.batch, new=sizes.new, tokens=sizes.read
        ),
    }
    return Part(
        sides=sides,
        figures=lambda times: {"evolution_over_sampling": ratio(times, "private_evolution", "sampling_batch")},
    )


# ---- emulated fine-tuning -------------------------------------------------------------------------------------------


def emulated(bench: Bench) -> Part:
    """An ensemble against its large model alone."""
    from reticent.models.emulated import EmulatedModel, Reading
    from reticent.models.emulation import EmulationConfig
    from reticent.models.tuning.method import TUNINGS

    tuned = TUNINGS.get("lora")(smaller(bench.model), r=8, alpha=16).eval()
    small = count(tuned)
    ensemble = EmulatedModel(Reading(bench.model), Reading(tuned), Reading(tuned, off=True), EmulationConfig())
    tokens = bench.sizes.batch * bench.sizes.new

    def figures(times: Mapping[str, list[float]]) -> dict[str, Any]:
        return {
            "emulated_over_large": ratio(times, "emulated", "large"),
            "emulated_bound": 1 + 2 * small / count(bench.model) + ALLOWED,
            "emulated_parameters": {"large": count(bench.model), "small": small},
            "emulated_ms_a_token": {
                side: 1000 * statistics.median(times[side]) / tokens for side in ("large", "emulated")
            },
        }

    return Part(sides={"large": writing(bench, bench.model), "emulated": writing(bench, ensemble)}, figures=figures)


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


PARTS: Mapping[str, Callable[[Bench], Part]] = {"prediction": prediction, "evolution": evolution, "emulated": emulated}
"""By name, what is compared; further ways to private text come in here."""


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


def in_turns(
    sides: Mapping[str, Callable[[], None]],
    rounds: int,
    *,
    work: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each call, by side; a first round of each process is not counted.

    Args:
        sides: in one order and then in the other.
        rounds: how many are counted.
        work: file that holds each round from when it is done; rounds that are there are not made again.
        about: what the file is about; one about something else is refused.
    """
    done = _rounds(work, about or {})
    order = list(sides)
    if len(done) < rounds:
        for name in order:  # libraries and caches come up
            sides[name]()
    for number in range(len(done), rounds):
        seconds: dict[str, float] = {}
        for name in order if number % 2 else reversed(order):
            started = time.perf_counter()
            sides[name]()
            seconds[name] = time.perf_counter() - started
        done.append(seconds)
        if work is not None:
            with work.open("a", encoding="utf-8") as file:
                file.write(json.dumps(seconds) + "\n")
    return {name: [seconds[name] for seconds in done[:rounds]] for name in sides}


def _rounds(work: Path | None, about: Mapping[str, Any]) -> list[dict[str, float]]:
    """Rounds that a file holds; a new file gets its head, and a line that was cut off is dropped."""
    head = json.dumps(about, sort_keys=True)
    if work is None:
        return []
    if not work.exists():
        work.parent.mkdir(parents=True, exist_ok=True)
        work.write_text(head + "\n", encoding="utf-8")
    whole = work.read_text(encoding="utf-8").split("\n")[:-1]
    if not whole or whole[0] != head:
        raise SystemExit(f"{work} holds rounds of another run; name another file (--work)")
    work.write_text("\n".join(whole) + "\n", encoding="utf-8")
    return [json.loads(line) for line in whole[1:]]


def ratio(times: Mapping[str, list[float]], over: str, under: str) -> float:
    """Median over rounds of the ratio of the two sides' times."""
    return statistics.median(high / low for high, low in zip(times[over], times[under], strict=True))


def count(model: Any) -> int:
    """Parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
