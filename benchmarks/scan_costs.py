# SPDX-License-Identifier: Apache-2.0
"""What scans of weights and behaviour cost. Not a benchmark by itself: parts of ``scan.py``.

Ratios are of CPU seconds of this process, taken in turns within one run, so that other work on the machine falls on
both sides. Wall seconds beside other work say little, and are given as such.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

LAYERS, HIDDEN, INNER, KEYS, RANK = 30, 576, 1536, 192, 16
"""Sizes of SmolLM2-135M, and a rank with which its adapter has 4.9 million weights."""
MODULES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, KEYS),
    "self_attn.v_proj": (HIDDEN, KEYS),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (HIDDEN, INNER),
    "mlp.up_proj": (HIDDEN, INNER),
    "mlp.down_proj": (INNER, HIDDEN),
}
"""Name → inputs and outputs."""
ROUNDS = 3


def spectrum(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of reading one adapter of five million weights, whose numbers play no part for the time."""
    from reticent.scanning.scanner import SCANNERS
    from reticent.scanning.suspect import Suspect

    scanner = SCANNERS.get("adapter_spectrum")
    assert scanner.features is not None
    read = scanner.features
    rounds = []
    for number in range(ROUNDS + 1):
        place = folder / str(number)
        place.mkdir()
        weights = write_adapter(place, seed=number)  # another one each time: what is cached is no reading
        rounds.append(both(partial(read, Suspect(folder=place, cache=place))))
    rounds = rounds[1:]
    return {
        "spectrum_seconds_per_adapter": statistics.median(cpu for cpu, _ in rounds),
        "spectrum_wall_seconds_per_adapter": statistics.median(wall for _, wall in rounds),
        "spectrum_weights": weights,
    }


def write_adapter(folder: Path, *, layers: int = LAYERS, rank: int = RANK, seed: int = 0) -> int:
    """An adapter of drawn numbers for all linear modules; gives the number of its weights."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(layers):
        for module, (inputs, outputs) in MODULES.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = rng.normal(size=(rank, inputs)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = rng.normal(size=(outputs, rank)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": sorted(MODULES)}
    (folder / "adapter_config.json").write_text(json.dumps(about), encoding="utf-8")
    return sum(tensor.size for tensor in tensors.values())


def pre_memorized(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The whole scan of private texts over its scoring passes: two models, ``1 + m`` texts each, from empty caches."""
    from backdoor_runs import short_texts

    from reticent.models.load import load
    from reticent.models.locate import locate
    from reticent.scanning.behaviour.altered_copies import CopyMaker, marked
    from reticent.scanning.behaviour.pre_memorization import COPIES, loss_shifts, scan_texts

    base = str(locate(chosen.base))
    models = {"suspect": load(base), "sibling": load(base)}
    texts = short_texts(chosen.texts, seed=1, base=base, tokens=32)
    known = marked(texts)
    maker = CopyMaker.of(known, copies=COPIES, secret="of the benchmark")

    def scoring(cache: str) -> None:
        loss_shifts(known, maker, **models, cache=cache, title="timed")

    def whole(cache: str) -> None:
        scan_texts(texts, (), models["suspect"], models["sibling"], cache)

    loss_shifts(known[:2], maker, **models, cache=folder / "warm", title="warm")
    rounds = []
    for number in range(chosen.rounds):
        order = [(scoring, "scoring"), (whole, "whole")][:: 1 if number % 2 else -1]
        seconds = {name: timed_in_new_folder(work)[0] for work, name in order}
        rounds.append(seconds["whole"] / seconds["scoring"])
    return {
        "pre_memorized_over_scoring": statistics.median(rounds),
        "pre_memorized_over_scoring_rounds": rounds,
        "pre_memorized_texts": len(texts),
    }


def trigger_search(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a search of one poisoned adapter, tuned for it on ``--records`` reviews."""
    from trigger_search import measure

    if chosen.data is None:
        return {"trigger_search_seconds": None, "trigger_search_note": "needs --data"}
    given = argparse.Namespace(
        **{name: getattr(chosen, name) for name in ("base", "records", "share")},
        data=str(chosen.data), prompts=240, epochs=1,
    )  # fmt: skip
    started = time.process_time()
    row = measure(given, folder, "poisoned-00", 0, True)
    return {
        "trigger_search_seconds": row["seconds"],
        "trigger_search_share": chosen.share,
        "trigger_search_recovered": row["recovered"],
        "trigger_search_success": row["success"]["value"],
        "trigger_search_cpu_seconds_with_training": time.process_time() - started,
    }


def timed_in_new_folder(work: Callable[[str], Any]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as cache:
        return both(lambda: work(cache))


def both(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall
