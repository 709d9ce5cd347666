# SPDX-License-Identifier: Apache-2.0
"""Which families of causal language models can be scored and tuned, and whether numbers depend on a record's company.

Every family that the installed transformers knows is built tiny from its configuration, with random weights; nothing
is downloaded. Records of 5 to 90 tokens are scored in padded batches and each alone, and log p must agree. Then each
way of tuning is put on a fresh model, takes a step of training, and is held against the same.

=============  =====================================================================================================
outcome        means
=============  =====================================================================================================
``ok``         together and alone agree to 1e-4 nats
``refused``    a named reason, before anything is trained
``off``        they do not agree
``crash``      any other exception
``not built``  transformers cannot make the model here, or the table of sizes does not make it small
=============  =====================================================================================================

    python benchmarks/score_families.py --json benchmarks/results/score_families.json
    python benchmarks/score_families.py --only phi3 mamba --methods lora prefix
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

CLOSE = 1e-4
LENGTHS = (5, 14, 40, 60, 90, 23)
METHODS = ("full", "blocks", "adapter", "bitfit", "lora", "ia3", "prefix", "prompt")
PARAMS = {
    "adapter": {"reduction_factor": 4},
    "lora": {"r": 4},
    "prefix": {"virtual_tokens": 3},
    "prompt": {"virtual_tokens": 3},
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0, 6.0, 8.0, 10.0],
    "original_max_position_embeddings": 16,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3 longrope": ("phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 16}),
    "phimoe longrope": ("phimoe", {"rope_parameters": {**LONGROPE, "short_mscale": 1.1, "long_mscale": 1.3}}),
    "llama longrope": ("llama", {"rope_parameters": LONGROPE}),
    "llama yarn": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    "llama dynamic": (
        "llama",
        {
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
            "max_position_embeddings": 48,
        },
    ),
    "llama3 scaling": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    "falcon multi-query": ("falcon", {"multi_query": True, "new_decoder_architecture": False}),
    "falcon grouped": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon alibi": ("falcon", {"alibi": True, "new_decoder_architecture": False}),
}
"""Names for people → family and settings."""


class Cell(NamedTuple):
    """What came out, why, and the largest difference in nats."""

    outcome: str
    why: str = ""
    off: float | None = None


def build(name: str) -> Any:
    """The tiny model of a family, or of a variant of one."""
    from reticent.testing.families import tiny_family

    family, settings = VARIANTS.get(name, (name, {}))
    return tiny_family(family, **settings)


def cell(name: str, method: str | None) -> Cell:
    """One family, as it is or tuned in one way."""
    from reticent.core.errors import BadInput

    try:
        model = build(name)
    except Exception as error:  # noqa: BLE001 - the library's own limits are no finding
        return Cell("not built", _first_line(error))
    try:
        off = apart(model if method is None else trained(model, method))
    except BadInput as error:
        return Cell("refused", f"{error.given}: {error.why}")
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return Cell("crash", f"{type(error).__name__}: {_first_line(error)}")
    return Cell("ok" if off <= CLOSE else "off", "", off)


def trained(model: Any, method: str) -> Any:
    """The model after one large step of training by the method."""
    import torch

    from reticent.models.tuning.method import TUNINGS

    torch.manual_seed(0)
    tuned = TUNINGS.get(method)(model, **PARAMS.get(method, {}))
    tuned.train()
    token_id = torch.randint(3, 60, (2, 12))
    loss = tuned(input_ids=token_id, attention_mask=torch.ones_like(token_id), labels=token_id).loss
    loss.backward()
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad and parameter.grad is not None:
                parameter.add_(0.05 * parameter.grad.sign())
                parameter.grad = None
    return tuned.eval()


def apart(model: Any) -> float:
    """Largest difference in log p between records scored together and each alone, by the model's own call."""
    import numpy as np
    import torch

    from reticent.models.encode import EncodedRecord
    from reticent.score.engine import ScoreOptions, open_engine, score

    rng = np.random.default_rng(0)
    limit = open_engine(model, "model", ScoreOptions()).choices.window
    lengths = [min(length, limit) for length in LENGTHS]
    rows = [EncodedRecord(token_id=rng.integers(3, 60, n).astype(np.int32), trained=np.ones(n, bool)) for n in lengths]
    together, offsets = score(open_engine(model, "model", ScoreOptions()), rows)
    worst = 0.0
    for number, row in enumerate(rows):
        ids = torch.from_numpy(row.token_id.astype(np.int64))[None]
        with torch.inference_mode():
            read = ids[:, :-1]
            logits = model(input_ids=read, attention_mask=torch.ones_like(read)).logits[0, -read.shape[1] :]
            alone = logits.float().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].numpy()
        mine = together["logp"][offsets[number] : offsets[number + 1]]
        worst = max(worst, float(np.abs(mine - alone).max()))
    return worst if np.isfinite(worst) else float("inf")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def tables(names: list[str], methods: list[str]) -> dict[str, Any]:
    """All cells and how often each outcome came."""
    import peft
    import torch
    import transformers

    cells: dict[str, dict[str, Any]] = {}
    for name in names:
        first = cell(name, None)
        row = {"as it is": first}
        if first.outcome != "not built":
            row |= {method: cell(name, method) for method in methods}
        cells[name] = {way: one._asdict() for way, one in row.items()}
        print(name, {way: one.outcome for way, one in row.items()}, flush=True)
    ways = ("as it is", *methods)
    counts = {way: Counter(row[way]["outcome"] for row in cells.values() if way in row) for way in ways}
    versions = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
    return {"versions": versions, "counts": counts, "cells": cells}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write all cells")
    parser.add_argument("--only", nargs="*", help="families and variants")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="ways of tuning; none for scoring alone")
    chosen = parser.parse_args()
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    warnings.filterwarnings("ignore")
    from reticent.core.progress import console
    from reticent.testing.families import causal_families

    console.quiet = True
    found = tables(chosen.only or [*causal_families(), *VARIANTS], chosen.methods)
    print(json.dumps(found["counts"], indent=1))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
