# SPDX-License-Identifier: Apache-2.0
"""How long all table attacks take over 5 million tokens, read from Parquet row group by row group, and in what memory.

Tables are synthetic: records of 16 to 512 tokens, half of them with a prompt that is not trained on. Tokens are counted
in the table of the plain text; the other tables (reference, variants, ten neighbours a record) come on top. Making the
tables is not measured; attacks run in a process of their own, so that its peak is theirs. ``load_average`` says how
busy the machine was: above 1, other work shared the cores and ``seconds`` says less than ``cpu_seconds``.

    python benchmarks/attack_speed.py --json benchmarks/results/attack_speed.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from reticent.attacks import ATTACKS, run_attacks
from reticent.attacks.evidence import POPULATION
from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.table import ROW_GROUP, TokenTable, arrow_schema

TOKENS = 5_000_000
POPULATION_RECORDS = 1000
SECONDS, PEAK_MB = 10.0, 1500.0
"""What the project promises."""


def lengths_of(tokens: int) -> np.ndarray:
    """Record lengths, 16 to 512 tokens, that add up to at least ``tokens``."""
    lengths = np.random.default_rng(0).integers(16, 513, 2 * tokens // 264 + 100)
    return lengths[: int(np.searchsorted(np.cumsum(lengths), tokens)) + 1]


def portion(lengths: np.ndarray, first: int, copies: int, needed: set[str], rng: np.random.Generator) -> TokenTable:
    """Rows for the given records; what two models must agree on follows from the record's number."""
    rows = np.repeat(lengths, copies)
    total = int(rows.sum())
    place = np.arange(total) - np.repeat(np.cumsum(rows) - rows, rows)
    number = np.repeat(first + np.repeat(np.arange(len(lengths)), copies), rows)
    columns: dict[str, Callable[[], np.ndarray]] = {
        "token_id": lambda: ((number * 7919 + place * 104729) % 49152).astype(np.int32),
        "logp": lambda: -2.5 * rng.standard_exponential(total, dtype=np.float32),
        "rank": lambda: (rng.standard_exponential(total, dtype=np.float32) ** 4).astype(np.int32),
        "entropy": lambda: 2 + rng.random(total, dtype=np.float32),
        "mu": lambda: -2 - rng.random(total, dtype=np.float32),
        "sigma": lambda: 1 + rng.random(total, dtype=np.float32),
        "loss_mask": lambda: (number % 2 == 0) | (place > np.repeat(0.3 * rows, rows)),
    }
    return TokenTable(
        rows={
            "record_id": np.repeat(np.array([f"record-{first + i}" for i in range(len(lengths))], object), copies),
            "copy": np.tile(np.arange(copies, dtype=np.int32), len(lengths)),
            "text_bytes": (4 * rows).astype(np.int32),
            "zlib_bytes": (2 * rows + 12).astype(np.int32),
        },
        tokens={name: make() for name, make in columns.items() if name in needed},
        offsets=np.concatenate([[0], np.cumsum(rows)]).astype(np.int64),
    )


def write_tables(folder: Path, tokens: int) -> None:
    """All evidence of all attacks; the two tables of the plain text with every column, as the scorer writes them."""
    every = {"token_id", "logp", "rank", "entropy", "mu", "sigma", "loss_mask"}
    copies = {
        request.name: request.variant.copies
        for attack in ATTACKS.select(source="tables")
        for request in attack.requests
    }
    copies |= dict.fromkeys(POPULATION, 1)
    for index, (name, count) in enumerate(sorted(copies.items())):
        rng = np.random.default_rng(index)
        needed = {"token_id", "logp", "loss_mask"} if name not in ("table", "ref") else every
        lengths = lengths_of(tokens)[: POPULATION_RECORDS if name in POPULATION else None]
        step = ROW_GROUP // count
        with pq.ParquetWriter(folder / f"{name}.parquet", arrow_schema(needed), compression="zstd") as writer:
            for start in range(0, len(lengths), step):
                table = portion(lengths[start : start + step], start, count, needed, rng)
                writer.write_table(table.to_arrow())


def measure(folder: Path) -> dict[str, Any]:
    """Run all attacks once; wall time in all, in each attack's own function, and the peak of this process."""
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*tables: TokenTable, **params: Any) -> Any:
            start = time.perf_counter()
            result = function(*tables, **params)
            spent[name] += time.perf_counter() - start
            return result

        return call

    attacks = [
        replace(
            one,
            function=timed(one.name, one.function),
            edge_cases=None if one.edge_cases is None else timed(one.name, one.edge_cases),
        )
        for one in ATTACKS.select(source="tables")
    ]
    sources = {path.stem: path for path in folder.glob("*.parquet")}
    start, processor = time.perf_counter(), time.process_time()
    outcome = run_attacks(attacks, sources)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    assert all(np.isfinite(scores).all() for scores in outcome.scores.values())
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(processor, 3),
        "load_average": round(os.getloadavg()[0], 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1),
        "attack_seconds": {name: round(value, 3) for name, value in sorted(spent.items())},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_tables(Path(folder), args.tokens)
        command = [sys.executable, __file__, "--measure", folder]
        figures = json.loads(subprocess.check_output(command, text=True))
        rows = {path.stem: pq.read_metadata(path).num_rows for path in sorted(Path(folder).glob("*.parquet"))}
    lengths = lengths_of(args.tokens)
    figures |= {"n_tokens": int(lengths.sum()), "n_records": len(lengths), "table_rows": rows}
    figures |= {"promised": {"seconds": SECONDS, "peak_mb": PEAK_MB}, "hardware": environment()}
    if args.json:
        write_text(args.json, json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return 0 if figures["seconds"] <= SECONDS and figures["peak_mb"] < PEAK_MB else 1


if __name__ == "__main__":
    sys.exit(main())
