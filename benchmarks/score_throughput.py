# SPDX-License-Identifier: Apache-2.0
"""What the statistics cost over the bare forward pass, and how fast and lean scoring is.

Every way of doing it runs in a process of its own, which loads the model once; the passes are interleaved, and medians
are compared. All read the same records of random tokens, 16 to 512 long.

================  ==================================================================================================
``engine``        the product: all records through ``score.engine.score``, everything but writing the file
``forward``       the bare pass: body and LM head matmul (``model(ids).logits``) on the very batches of ``engine``,
                  with the same attention and memory allocator settings
``chunked``       a stricter bare pass: as ``forward``, but the LM head in chunks into one buffer, as ``engine`` does
``untuned``       as ``forward``, with attention and allocator as they are by default: what one has without this package
``memaudit``      ``memaudit.scoring.extract_token_signals`` of memaudit 0.2.0, as its users call it
================  ==================================================================================================

``stats_over_forward`` is engine / forward in seconds, ``speedup_over_memaudit`` memaudit / engine in seconds (of the
same tokens). ``cpu_seconds`` is processor time: with ``OMP_NUM_THREADS=1`` it hardly feels a busy machine.
``peak_over_forward`` compares peak resident memory beyond what the loaded model takes: the kernel's high-water mark
(VmHWM, reset after loading) less the resident size after loading. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("engine", "forward", "chunked", "untuned", "memaudit")
SHORTEST, LONGEST = 16, 512
TARGETS = {"stats_over_forward": 1.25, "speedup_over_memaudit": 2.5, "peak_over_forward": 1.15}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--model", default="smollm2-135m", help="catalogue name, folder or hub id")
    parser.add_argument("--records", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        serve(given)
        return
    result = compare(given)
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


# ---- the parent: start all ways, interleave their passes, compare -------------------------------------------------


def compare(given: argparse.Namespace) -> dict[str, Any]:
    from reticent.core.manifest import environment

    ways = [way for way in WAYS if way != "memaudit" or memaudit_version()]
    if "memaudit" not in ways:
        print("memaudit is not installed: speedup_over_memaudit is left out. pip install 'reticent[bench]'")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    cpu_seconds: dict[str, list[float]] = {way: [] for way in ways}
    said: dict[str, dict[str, Any]] = {}
    with processes(ways) as ask:
        for way in ways:
            said[way] = ask(way)  # loaded and warm
        for repeat in range(given.repeats):
            turn = ways[repeat % len(ways) :] + ways[: repeat % len(ways)]
            for way in turn:
                took = ask(way)
                seconds[way].append(took["seconds"])
                cpu_seconds[way].append(took["cpu_seconds"])
                print(f"pass {repeat + 1} of {given.repeats}, {way}: {seconds[way][-1]:.2f} s", file=sys.stderr)
        for way in ways:
            said[way] |= ask(way, "end")
    median = {way: statistics.median(times) for way, times in seconds.items()}
    tokens = said["engine"]["tokens"]
    return {
        "stats_over_forward": median["engine"] / median["forward"],
        "speedup_over_memaudit": median["memaudit"] / median["engine"] if "memaudit" in median else None,
        "peak_over_forward": said["engine"]["peak_mb"] / said["forward"]["peak_mb"],
        "stats_over_chunked_forward": median["engine"] / median["chunked"],
        "stats_over_untuned_forward": median["engine"] / median["untuned"],
        "targets": TARGETS,
        "n_records": given.records,
        "n_tokens": tokens,
        "tokens_per_second": {way: tokens / value for way, value in median.items()},
        "seconds": {way: sorted(times) for way, times in seconds.items()},
        "cpu_seconds": {way: statistics.median(times) for way, times in cpu_seconds.items()},
        "spread": {way: max(times) / min(times) for way, times in seconds.items()},
        "repeats": given.repeats,
        "peak_mb": {way: said[way]["peak_mb"] for way in ways},
        "resident_mb": {way: said[way]["resident_mb"] for way in ways},
        "engine": said["engine"]["choices"],
        "model": given.model,
        "dtype": given.dtype,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "memaudit": memaudit_version(),
        "hardware": environment(),
    }


@contextmanager
def processes(ways: list[str]) -> Iterator[Callable[..., dict[str, Any]]]:
    """Start one process for each way; yields ``ask(way, word)``, which sends a word and waits for the answer."""
    running = {
        way: subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--way", way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for way in ways
    }

    def ask(way: str, word: str = "go") -> dict[str, Any]:
        process = running[way]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(word + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise SystemExit(f"{way} ended with exit code {process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    try:
        yield ask
    finally:
        for process in running.values():
            process.terminate()
            process.wait()


# ---- a child: one way ---------------------------------------------------------------------------------------------


def serve(given: argparse.Namespace) -> None:
    """Answer each line on standard input by one pass (the first: by loading and warming up) with one line of JSON."""
    from reticent.score.candidates.memory import steady_heap

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    input()
    with steady_heap() if given.way not in ("untuned", "memaudit") else nullcontext():
        run, about = prepare(given)
        print(json.dumps(about), file=answers, flush=True)
        for line in sys.stdin:
            if line.strip() == "end":
                peak = memory("VmHWM") - about["resident_mb"]
                print(json.dumps({"peak_mb": peak}), file=answers, flush=True)
                return
            start, cpu = time.perf_counter(), time.process_time()
            run()
            took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
            print(json.dumps(took), file=answers, flush=True)


def prepare(given: argparse.Namespace) -> tuple[Callable[[], None], dict[str, Any]]:
    import torch

    from reticent.models.encode import EncodedRecord
    from reticent.models.load import load
    from reticent.score.engine import ScoreOptions, batches, open_engine, padded, plan_pieces, score

    model = load(given.model, dtype=given.dtype, device="cpu").model
    resident = reset_peak()
    rng = np.random.default_rng(given.seed)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    lengths = rng.integers(SHORTEST, LONGEST, given.records, endpoint=True)
    rows = [
        EncodedRecord(token_id=rng.integers(0, vocabulary, n).astype(np.int32), trained=np.ones(n, np.bool_))
        for n in lengths
    ]
    engine = open_engine(model, given.model, ScoreOptions())
    _, pieces = plan_pieces(rows, engine.choices.window)
    inputs = [padded(rows, batch)[0] for batch in batches(pieces, engine.choices.tokens_per_batch)]

    def engine_pass() -> None:
        score(engine, rows)

    def forward_pass() -> None:
        with torch.inference_mode():
            for ids in inputs:
                with engine.forward.attention(ids.shape[1]):
                    model(input_ids=ids, use_cache=False).logits  # noqa: B018

    def untuned_pass() -> None:
        with torch.inference_mode():
            for ids in inputs:
                model(input_ids=ids, use_cache=False).logits  # noqa: B018

    def chunked_pass() -> None:
        with torch.inference_mode():
            for ids in inputs:
                for _ in engine.forward.logits_at(ids, torch.arange(ids.numel())):
                    pass

    def memaudit_pass() -> None:
        from memaudit.scoring import extract_token_signals

        for row in texts:
            extract_token_signals(model, row)

    texts = [row.token_id.tolist() for row in rows]
    run = {
        "engine": engine_pass,
        "forward": forward_pass,
        "chunked": chunked_pass,
        "untuned": untuned_pass,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "memaudit": memaudit_pass,
    }[given.way]
    run()
    choices = {"impl": engine.choices.impl, "tokens_per_batch": engine.choices.tokens_per_batch}
    tokens = int(lengths.sum()) - given.records
    return run, {"tokens": tokens, "resident_mb": resident, "choices": {**choices, "logits": engine.forward.path}}


def reset_peak() -> float:
    """Set the high-water mark to the present; returns what is resident now, MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(field: str) -> float:
    """A field of ``/proc/self/status`` in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) / 1024


def memaudit_version() -> str | None:
    try:
        return version("memaudit")
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
