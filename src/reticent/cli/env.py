# SPDX-License-Identifier: Apache-2.0
"""`reticent env`: versions and hardware, to paste into a bug report; or the memory that a model would need."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from typing import Any

from reticent.core.manifest import environment
from reticent.models.memory_forecast import (
    ForecastConfig,
    ModelFootprint,
    StageMemory,
    audit_memory,
    private_memory,
    shared_out_memory,
    shared_out_private_memory,
    tune_memory,
)

_PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "peak")
_HOST = "host"


def command(*, model: str | None = None, json: bool = False, forecast_config: ForecastConfig) -> int:
    """Print versions and hardware as JSON; no names, no paths. With --model, what each stage would need in memory.

    Args:
        model: a config.json alone, or the folder, hub id or catalogue name of a model. Its weights are not read.
        json: print JSON instead of a table.
    """
    if model is None:
        print(json_.dumps(environment(), indent=2))
        return 0
    limit, gpus = forecast_config.limit, forecast_config.gpus
    rows = _stages(model, forecast_config)
    if json:
        print(json_.dumps({"devices": max(gpus, 1), "device": "gpu" if gpus else "cpu", "stages": rows}, indent=2))
        return 0
    parts = (*_PARTS, *([_HOST] if any(row[_HOST] is not None for row in rows) else []))
    names = (*parts, *(("fits",) if limit else ()))
    print("".join(["GB a device".ljust(28), *(name.rjust(13) for name in names)]))
    for row in rows:
        sizes = ["-" if row[part] is None else f"{row[part] / 1e9:.2f}" for part in parts]
        fits = [("yes" if row["fits"] else "NO")] if limit else []
        print("".join([row["stage"].ljust(28), *(word.rjust(13) for word in (*sizes, *fits))]))
    return 0


def _stages(model: str, asked: ForecastConfig) -> list[dict[str, Any]]:
    from reticent.models.memory_count import count_model
    from reticent.score.engine import TOKENS_PER_BATCH
    from reticent.score.forward import CHUNK_BYTES
    from reticent.train.config import TuneConfig, check_strategy
    from reticent.train.private.settings import CPU_MICRO_TOKENS, MICRO_TOKENS
    from reticent.train.start import refuse_load_in

    config = TuneConfig(method=asked.method, load_in=asked.load_in, strategy=asked.strategy)
    refuse_load_in(config)
    check_strategy(config, max(asked.gpus, 1))
    counts = count_model(model, method=asked.method, tokens=asked.max_tokens, load_in=asked.load_in)
    gpus, limit = asked.gpus, asked.limit
    rows, device = -(-asked.batch_size // max(gpus, 1)), "cuda" if gpus else "cpu"
    micro_tokens = MICRO_TOKENS if gpus else CPU_MICRO_TOKENS
    tokens, chunk = TOKENS_PER_BATCH[device], CHUNK_BYTES[device]
    stages = [
        (f"{stage.stage}{', checkpointed' if again else ''}", stage)
        for again in (False, True)
        for stage in (
            _tune(counts, asked, rows=rows, checkpointed=again),
            _private(counts, asked, micro_tokens=micro_tokens, checkpointed=again),
        )
    ]
    number = 2 if gpus else 4
    stages.append(("audit", audit_memory(counts, bytes_of_a_number=number, batch_tokens=tokens, chunk=chunk)))
    fits = {} if limit is None else {name: {"fits": stage.fits(limit)} for name, stage in stages}
    return [asdict(stage) | {"stage": name} | fits.get(name, {}) for name, stage in stages]


def _tune(counts: ModelFootprint, asked: ForecastConfig, **given: Any) -> StageMemory:
    if asked.strategy == "fsdp":
        return shared_out_memory(counts, processes=asked.gpus, **given)
    return tune_memory(counts, **given)


def _private(counts: ModelFootprint, asked: ForecastConfig, **given: Any) -> StageMemory:
    if asked.strategy == "fsdp":
        return shared_out_private_memory(counts, processes=asked.gpus, **given)
    return private_memory(counts, **given)
