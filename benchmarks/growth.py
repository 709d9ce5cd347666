# SPDX-License-Identifier: Apache-2.0
"""How time and memory of each stage grow with the records, on made-up mails of which 30 % end with one disclaimer.

``stages``                      a row for each stage and size: CPU seconds, and ``peak_mb``, the memory that the stage
                                took beyond what was there when it began (its input is; its result is counted).
                                ``exponent_time`` and ``exponent_memory`` are slopes of the logarithms over those of the
                                records, from the size before; null for the first, and for memory below ``LITTLE`` MB,
                                which is that of a block and says nothing about growth.
``confound_1e5_boilerplate``    the check of the split at 10⁵ records, where that size was asked for.
``attacks_1e8_peak_mb``         peak of all table attacks over 10⁸ tokens, with ``--attacks``; it takes 20 GB of disk.

A stage runs in a process of its own, so that no memory is left over from another. Seconds are of one thread. The
records themselves are in memory for all of them (about 2.7 KB each, with a text of 700 characters).

It goes on with what the file holds already: a call that was killed, or one that asks for further stages or sizes, runs
what is missing. A million records take hours, and 16 GB for the stages that hold all texts:

    python benchmarks/growth.py --json benchmarks/results/growth.json
    python benchmarks/growth.py --json benchmarks/results/growth.json --records 1000000 --stages exact split confound
    python benchmarks/growth.py --records 1000 3000 --stages near substring
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.record import Record

SIZES = (10_000, 30_000, 100_000)
LITTLE = 32
"""MB."""
DISCLAIMED = 0.3
MAILS_A_USER = 10
ATTACK_TOKENS = 100_000_000
TABLE_TOKENS = 64
"""Tokens of a record in the tables of the stages ``tables`` and ``attacks``: about 2 KB of disk each, and 20 KB."""

Stage = Callable[[Sequence[Record], Path], Callable[[], Any]]


def mails(count: int) -> list[Record]:
    """Made-up mails of 40 to 160 words, of ``MAILS_A_USER`` a user."""
    rng = random.Random(0)
    words = ["".join(rng.choice("bcdfgklmnprstaeiou") for _ in range(rng.randint(2, 8))) for _ in range(20_000)]
    disclaimer = " ".join(rng.choice(words) for _ in range(60))
    records = []
    for number in range(count):
        body = " ".join(rng.choice(words) for _ in range(rng.randint(40, 160)))
        end = f"\n\n{disclaimer}" if rng.random() < DISCLAIMED else ""
        records.append(Record(id=f"m{number}", text=body + end, user=f"u{number // MAILS_A_USER}"))
    return records


# ---- stages: what is made beforehand, and the call that is measured -------------------------------------------------


def written(records: Sequence[Record], folder: Path) -> str:
    """A file of these records."""
    file = folder / "mails.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for record in records:
            stream.write(json.dumps({"id": record.id, "user": record.user, "text": record.text}) + "\n")
    return str(file)


def read_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    from reticent.data.read import read

    file = written(records, folder)
    return lambda: read(file, text_field="text", user_field="user", id_field="id")


def prepare_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    """From a file to records with the spans of addresses; copies are counted, as always."""
    from reticent.workflows.inputs import DataConfig, read_data
    from reticent.workflows.prepare import prepare

    file = written(records, folder)
    config = DataConfig(text_field="text", user_field="user", id_field="id")
    return lambda: prepare(read_data(file, config).records, out=folder / "prepared.parquet", detectors="email")


def exact_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    from reticent.data.dedup import drop_exact_duplicates

    return lambda: drop_exact_duplicates(records)


def split_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    from reticent.data.split import split

    return lambda: split(records, unit="record", seed=0)


def fingerprint_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    from reticent.core.record import fingerprint

    return lambda: fingerprint(list(records))


def near_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    from reticent.data.dedup import near_duplicates

    texts = [record.plain for record in records]
    return lambda: near_duplicates(texts[::2], texts[1::2])


def near_within_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    from reticent.data.dedup import drop_near_duplicates

    return lambda: drop_near_duplicates(records)


def minhash_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    from reticent.data.dedup import drop_near_duplicates_by_minhash

    return lambda: drop_near_duplicates_by_minhash(records)


def substring_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    from reticent.data.dedup import shared_passages

    texts = [record.plain for record in records]
    return lambda: shared_passages(texts)


def confound_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    from reticent.auditing.split_validity import check
    from reticent.data.split import split

    membership = split(records, unit="record", seed=0)
    return lambda: check(records, membership)


def tables_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    """Shards of token tables, as scoring leaves them, joined into one; without the model that fills them."""
    import numpy as np
    from attack_speed import portion

    from reticent.core.schema import TOKEN_COLUMNS
    from reticent.core.table import ROW_GROUP
    from reticent.score.cache import join

    rng = np.random.default_rng(0)
    lengths = rng.integers(TABLE_TOKENS // 2, 3 * TABLE_TOKENS // 2, len(records))
    starts = range(0, len(records), ROW_GROUP)
    shards = (portion(lengths[at : at + ROW_GROUP], at, 1, set(TOKEN_COLUMNS), rng) for at in starts)
    return lambda: join(shards, folder / "table.parquet")


def attacks_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    """All attacks on tables of ``TABLE_TOKENS`` tokens a record on average; the lengths are those of `attack_speed`."""
    from attack_speed import write_tables

    from reticent.attacks import ATTACKS, run_attacks

    apart = get_context("spawn").Process(target=write_tables, args=(folder, TABLE_TOKENS * len(records)))
    apart.start()  # its peak is not that of the attacks
    apart.join()
    sources = {path.stem: path for path in folder.glob("*.parquet")}
    attacks = [attack for attack in ATTACKS.select(source="tables") if attack.name != "transferred"]  # needs a file
    return lambda: run_attacks(attacks, sources)


def judge_stage(records: Sequence[Record], folder: Path) -> Callable[[], Any]:
    from judge_speed import level_of

    from reticent.auditing.membership.evaluate import judge_alone

    level = level_of(len(records), "free")
    return lambda: judge_alone(level)


STAGES: dict[str, Stage] = {
    "read": read_stage,
    "prepare": prepare_stage,
    "exact": exact_stage,
    "split": split_stage,
    "fingerprint": fingerprint_stage,
    "near": near_stage,
    "near_within": near_within_stage,
    "minhash": minhash_stage,
    "substring": substring_stage,
    "confound": confound_stage,
    "tables": tables_stage,
    "attacks": attacks_stage,
    "judge": judge_stage,
}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measured(name: str, count: int) -> dict[str, Any]:
    """One stage at one size, in this process."""
    records = mails(count)
    with tempfile.TemporaryDirectory() as folder:
        run = STAGES[name](records, Path(folder))
        before, start = peak_mb(), time.process_time()
        outcome = run()
        seconds = time.process_time() - start
    del outcome
    letters = sum(len(record.plain) for record in records)
    return {
        "stage": name,
        "records": count,
        "tokens": letters // 4,
        "seconds": round(seconds, 3),
        "peak_mb": round(peak_mb() - before, 1),
    }


# ---- all of them -------------------------------------------------------------------------------------------------


def exponent(name: str, row: dict[str, Any], before: dict[str, Any] | None, *, least: float) -> float | None:
    """Slope between two sizes; None where there is one, or the figure is too small to say."""
    if before is None or min(row[name], before[name]) <= least:
        return None
    return round(math.log(row[name] / before[name]) / math.log(row["records"] / before["records"]), 3)


def attacks_peak(tokens: int) -> float:
    """Peak of all table attacks over so many tokens."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "attacks.json"
        script = Path(__file__).with_name("attack_speed.py")
        subprocess.run([sys.executable, str(script), "--tokens", str(tokens), "--json", str(file)], check=False)
        return float(json.loads(file.read_text(encoding="utf-8"))["peak_mb"])


def with_exponents(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows in the order of ``STAGES`` and sizes, each with its slopes from the size before."""
    order = list(STAGES)
    made: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (order.index(row["stage"]), row["records"])):
        before = made[-1] if made and made[-1]["stage"] == row["stage"] else None
        slopes = {
            "exponent_time": exponent("seconds", row, before, least=0.0),
            "exponent_memory": exponent("peak_mb", row, before, least=LITTLE),
        }
        made.append(row | slopes)
    return made


def so_far(file: Path | None) -> dict[str, Any]:
    """What an earlier call wrote, to go on with."""
    result: dict[str, Any] = {"stages": [], "confound_1e5_boilerplate": None, "attacks_1e8_peak_mb": None}
    if file is not None and file.exists():
        result |= json.loads(file.read_text(encoding="utf-8"))
    return result


def run_apart(name: str, size: int) -> dict[str, Any]:
    """One stage at one size, in a process of its own."""
    command = [sys.executable, __file__, "--one", name, str(size)]
    environ = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    row: dict[str, Any] = json.loads(subprocess.check_output(command, text=True, env=environ).splitlines()[-1])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here, after each stage; go on with what it holds")
    parser.add_argument("--records", "--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--stages", nargs="+", choices=tuple(STAGES), default=list(STAGES))
    parser.add_argument("--again", action="store_true", help="measure what the file holds already once more")
    parser.add_argument("--attacks", action="store_true", help=f"measure the attacks over {ATTACK_TOKENS:,} tokens too")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], int(given.one[1]))))
        return
    result = so_far(given.json)
    rows = {(row["stage"], row["records"]): row for row in result["stages"] if row["stage"] in STAGES}
    for name, size in product(given.stages, sorted(given.records)):
        if (name, size) in rows and not given.again:
            continue
        rows[name, size] = run_apart(name, size)
        result["stages"] = with_exponents(list(rows.values()))
        if (name, size) == ("confound", 100_000):
            result["confound_1e5_boilerplate"] = {key: rows[name, size][key] for key in ("seconds", "peak_mb")}
        print(rows[name, size], file=sys.stderr, flush=True)
        write(given.json, result)
    if given.attacks:
        result["attacks_1e8_peak_mb"] = attacks_peak(ATTACK_TOKENS)
        write(given.json, result)


def write(file: Path | None, result: dict[str, Any]) -> None:
    if file is not None:
        write_text(file, json.dumps(result | {"machine": environment()}, indent=2) + "\n", private=False)


if __name__ == "__main__":
    main()
