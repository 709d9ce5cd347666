# SPDX-License-Identifier: Apache-2.0
"""Which faults the self-check of private training stops, how often it stops a right one, and how much one unit can add.

Three parts, on tiny models made here:

- every fault of ``reticent.testing.dp_faults``, each planted in a training of 30 steps: whether and at which step it is
  stopped (``caught``, or shows in what is stated), and of those that cost privacy how many (``caught_of_privacy``);
- ``runs`` right trainings of different seeds, units, families, tunings, clippings and precisions: how many are stopped
  (``false_alarms``);
- a search for the most that one unit can move a clipped sum, over the clip norm, in float32 and with bfloat16
  activations (``worst_over_clip_fp32``, ``worst_over_clip_bf16``), over models that use every layer rule and over one
  layer's products (see ``reticent.testing.clip_worst``).

    python benchmarks/dp_faults.py --json benchmarks/results/dp_faults.json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import dp_families
import torch

from reticent.core.manifest import environment
from reticent.privacy.clip.rule import LAYER_RULES
from reticent.testing.clip_worst import worst_of_model, worst_of_outer
from reticent.testing.dp_faults import FAULTS, FaultSetting, run
from reticent.testing.tiny import tiny_tuned

PARTS = ("faults", "right", "worst")
TRAINED = (
    *(("llama", "full"), ("gpt2", "full"), ("gemma2", "full")),
    *(("llama", "lora"), ("llama", "ia3"), ("gpt2", "prompt")),
)
RIGHT = [
    FaultSetting(unit=unit, family=family, tuning=tuning, clipping=clipping, bfloat16=bfloat16, steps=12)
    for clipping, bfloat16, unit, (family, tuning) in itertools.product(
        ("flat", "automatic", "per_layer"),
        (False, True),
        ("record", "user"),
        TRAINED,
    )
]
"""Settings of right trainings; gone through again with other seeds until there are enough."""
SEARCHED = (
    *(("gpt2", "full"), ("llama", "full"), ("llama_untied", "full"), ("gemma3", "full")),
    *(("gemma2", "lora"), ("llama", "ia3"), ("gpt2", "bitfit"), ("qwen2", "adapter"), ("llama", "prompt")),
)
WHOLE = ("opt", "falcon", "cohere qk", "bloom")
"""Families of `dp_families.py`, trained whole: between them and the others every layer rule is used."""
LAYERS = (
    (1, 96, 512, 64),
    (1, 96, 4096, 512),
    (1, 300, 8192, 2048),
    (256, 8, 128, 64),
    (256, 8, 512, 256),
    (64, 32, 512, 256),
)
"""Units, tokens, and both widths."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the outcome here")
    parser.add_argument("--runs", type=int, default=216, help="right trainings")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="others are kept as the file has them")
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = given.json is not None and given.json.exists() and list(given.parts) != list(PARTS)
    outcome: dict[str, Any] = json.loads(given.json.read_text(encoding="utf-8")) if kept else {}
    for name in given.parts:
        outcome |= {"faults": planted, "right": lambda: right(given.runs), "worst": worst}[name]()
        if given.json:
            given.json.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(outcome | {"machine": environment()}, indent=2, ensure_ascii=False)
            given.json.write_text(text + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in outcome.items() if name != "each"}, indent=2))


def planted() -> dict[str, Any]:
    """Every fault, one at a time."""
    each = []
    for number, fault in enumerate(FAULTS.values()):
        said(f"fault {number + 1} of {len(FAULTS)}: {fault.name}")
        with contextlib.redirect_stdout(io.StringIO()):
            found = run(fault)
        each.append(
            {
                "name": fault.name,
                "costs_privacy": fault.costs_privacy,
                "caught": found.caught,
                "step": found.step,
                "by": found.why.split(":")[1].strip() if found.why.startswith("Broken") else found.why[:80],
            }
        )
    of_privacy = [one for one in each if one["costs_privacy"]]
    return {
        "faults": len(each),
        "caught": sum(one["caught"] for one in each),
        "of_privacy": len(of_privacy),
        "caught_of_privacy": sum(one["caught"] for one in of_privacy),
        "share_of_privacy": sum(one["caught"] for one in of_privacy) / len(of_privacy),
        "not_caught": [one["name"] for one in each if not one["caught"]],
        "each": each,
    }


def right(runs: int) -> dict[str, Any]:
    """Trainings with nothing wrong in them."""
    alarms = []
    for number in range(runs):
        setting = RIGHT[number % len(RIGHT)]
        said(f"right training {number + 1} of {runs}: {setting}")
        with contextlib.redirect_stdout(io.StringIO()):
            found = run(setting=FaultSetting(**(vars(setting) | {"seed": 1 + number // len(RIGHT)})))
        if found.caught:
            alarms.append(f"{setting}: {found.why}")
    return {"runs": runs, "false_alarms": len(alarms), "alarms": alarms}


def worst() -> dict[str, Any]:
    """The search, in both precisions."""
    found: dict[str, Any] = {}
    each: dict[str, float] = {}
    for name, dtype in (("fp32", None), ("bf16", torch.bfloat16)):
        for family, tuning in SEARCHED:
            said(f"search in {name}: {family}, {tuning}")
            each[f"{family} {tuning} {name}"] = worst_of_model(
                tiny_tuned(family, tuning), autocast=dtype, clip_norms=(1.0, 1e-4)
            )
        for family in WHOLE:
            said(f"search in {name}: {family}")
            each[f"{family} whole {name}"] = worst_of_model(
                dp_families.build(family).requires_grad_(True), autocast=dtype, tokens=(24,)
            )
        for units, tokens, left, right_ in LAYERS:
            each[f"outer {units}x{tokens}x{left}x{right_} {name}"] = worst_of_outer(
                dtype=dtype or torch.float32, units=units, tokens=tokens, left=left, right=right_, draws=24
            )
        found[f"worst_over_clip_{name}"] = max(value for key, value in each.items() if key.endswith(name))
    return found | {"worst_each": each, "layer_rules": LAYER_RULES.names()}


def said(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
