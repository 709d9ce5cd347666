# SPDX-License-Identifier: Apache-2.0
"""Memory of tuning: what a base in 16 bits saves, and how far the forecast is from what is measured.

A small Llama in bfloat16 is tuned for two steps, each case in a process of its own. Measured is the peak of the memory
that no file lies behind (``RssAnon``) and of what is mapped of the files of weights, looked at every 10 ms, above the
peak of a model of next to nothing (about 10 MB: objects of Python, buffers of libraries). Blocks are mapped one by one
(``MALLOC_MMAP_THRESHOLD_``): else the allocator of the C library keeps what was let go of, and its habits are measured.

================================  ====================================================================================
``lora_bf16_base_over_fp32_base``  peak of LoRA on a base held in bfloat16 over that on one in float32, of a base of 167
                                   million numbers and one text a step: the smaller the share of activations, the nearer
                                   to a half. For the small base see ``cases``
``env_error``                      largest relative difference between forecast and measurement, of the small base
``shared_out``                     the same of the larger of two processes with ``strategy="fsdp"``
``fsdp_rank_over_single``          peak of the larger of two processes with ``strategy="fsdp"`` over that of one, full
                                   tuning of a model of 52 million numbers, two texts of 32 tokens a step
================================  ====================================================================================

What a process gathers to write lies behind files without a name, which the system can write out; it is not counted, as
what it keeps of any file that is written is not.

    python benchmarks/tune_memory.py --json benchmarks/results/tune_memory.json
    python benchmarks/tune_memory.py --only fsdp --json benchmarks/results/tune_memory.json  # keeps the other figures
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reticent.core.manifest import environment

ROWS, TOKENS = 4, 128
CASES: dict[str, dict[str, Any]] = {
    "lora on float32": {"method": "lora", "base_dtype": "float32"},
    "lora on bfloat16": {"method": "lora"},
    "full": {"method": "full"},
}
FEW_BITS: dict[str, dict[str, Any]] = {"lora on 4 bits": {"method": "lora", "load_in": "4bit"}}
"""Further cases where bitsandbytes is installed."""
LARGE = {"hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 12, "num_attention_heads": 8}
SHARED = {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 10, "num_attention_heads": 8}
SHARED_TOKENS, SHARED_VOCABULARY = 32, 2000
NOTHING = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
NOTHING_VOCABULARY, NOTHING_TOKENS = 400, 8
SIZE = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "num_attention_heads": 8}


def save_base(folder: Path, size: dict[str, int] = SIZE, vocabulary: int = 8000) -> str:
    """A base in bfloat16; 27 million numbers unless told otherwise."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from reticent.testing.tiny import tiny_tokenizer

    config = LlamaConfig(**size, vocab_size=vocabulary, max_position_embeddings=512, tie_word_embeddings=False)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def forecast(base: str, case: dict[str, Any], rows: int = ROWS, tokens: int = TOKENS, processes: int = 1) -> int:
    """Bytes at the peak of one process, told beforehand."""
    from reticent.models.memory_count import count_model
    from reticent.models.memory_forecast import shared_out_memory, tune_memory

    counts = count_model(f"{base}/config.json", tokens=tokens, **case)
    if processes > 1:
        return shared_out_memory(counts, rows=-(-rows // processes), processes=processes).peak
    return tune_memory(counts, rows=rows).peak


def measured(base: str, case: dict[str, Any], rows: int = ROWS, tokens: int = TOKENS, processes: int = 1) -> int:
    """Bytes at the peak, in a process of its own, or of the largest of several, above those of next to nothing."""
    with tempfile.TemporaryDirectory() as folder:
        nothing = save_base(Path(folder) / "nothing", NOTHING, NOTHING_VOCABULARY)
        return _peak(base, case, rows, tokens, processes) - _peak(nothing, case, processes, NOTHING_TOKENS, processes)


def _peak(base: str, case: dict[str, Any], rows: int, tokens: int, processes: int) -> int:
    case = case | ({"strategy": "fsdp"} if processes > 1 else {})
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [__file__, "--base", base, "--case", json.dumps(case), "--rows", str(rows), "--tokens", str(tokens)]
    if processes > 1:
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *command]
    done = subprocess.run([sys.executable, *command], env=env, check=True, stdout=subprocess.PIPE, text=True)
    return max(int(peak) for peak in re.findall(r"peak (\d+)", done.stdout))


def shared_out() -> dict[str, Any]:
    """Peaks of one process, and of the larger of two that share the model out, with forecasts of that; and of the small
    base."""
    with tempfile.TemporaryDirectory() as folder:
        base, case = save_base(Path(folder) / "shared", SHARED, SHARED_VOCABULARY), {"method": "full"}
        peaks = {"one process": measured(base, case, 2, SHARED_TOKENS)}
        peaks |= {"rank of two": measured(base, case, 2, SHARED_TOKENS, processes=2)}
        told = {"full, large": {"forecast": forecast(base, case, 2, SHARED_TOKENS, 2), "peak": peaks["rank of two"]}}
        base = save_base(Path(folder) / "base")
        for name, of_case in CASES.items():
            told[name] = {"forecast": forecast(base, of_case, processes=2)}
            told[name] |= {"peak": measured(base, of_case, processes=2)}
    return peaks | {"cases": told, "env_error": max(abs(row["forecast"] / row["peak"] - 1) for row in told.values())}


def _resident() -> int:
    """Bytes of this process that are its own, or of files of weights: libraries are left out."""
    total, is_counted = 0, False
    with Path("/proc/self/smaps").open(encoding="utf-8") as file:
        for line in file:
            first, *rest = line.split()
            if not first.endswith(":"):
                is_counted = len(rest) < 5 or rest[4].startswith("[") or rest[4].endswith(".safetensors")
            elif is_counted and first == "Rss:":
                total += 1024 * int(rest[0])
    return total


def _tune_here(base: str, case: dict[str, Any], rows: int, tokens: int) -> int:
    import torch.distributed.fsdp  # noqa: F401 - what is imported is there before it is measured

    from reticent.core.record import Record
    from reticent.train.config import TuneConfig
    from reticent.train.leading import led
    from reticent.train.trainer import tune

    if case.get("load_in"):
        import bitsandbytes  # noqa: F401 - not to be counted
    texts = [Record(id=str(i), text=("abcdefgh" * 100)[i : i + 4 * tokens]) for i in range(2 * rows)]
    config = TuneConfig(dtype="float32", epochs=1, batch_size=rows, max_tokens=tokens, **case)
    before, peak, ended = _resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.is_set():
            peak = max(peak, _resident())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        led("the benchmark", lambda: config, lambda: tune(base, texts, Path(folder) / "out", config))
    ended.set()
    watcher.join()
    return peak - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json")
    parser.add_argument("--base", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, default=TOKENS, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("fsdp",), help="measure this alone and take the rest from --json")
    given = parser.parse_args()
    if given.case:
        print(f"peak {_tune_here(given.base, json.loads(given.case), given.rows, given.tokens)}", flush=True)
        return
    if given.only:
        found = json.loads(Path(given.json).read_text(encoding="utf-8"))
        found.pop("note", None)
    else:
        found = _one_process()
    peaks = shared_out()
    found |= {"fsdp_rank_over_single": peaks["rank of two"] / peaks["one process"], "shared_out": peaks}
    text = json.dumps(found, indent=2)
    print(text)
    if given.json:
        Path(given.json).write_text(text + "\n", encoding="utf-8")


def _one_process() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        base = save_base(Path(folder) / "base")
        cases = CASES | (FEW_BITS if find_spec("bitsandbytes") else {})
        rows = {name: {"forecast": forecast(base, case), "peak": measured(base, case)} for name, case in cases.items()}
        base = save_base(Path(folder) / "large", LARGE)
        large = {name: measured(base, CASES[name], rows=1) for name in ("lora on float32", "lora on bfloat16")}
    return {
        "lora_bf16_base_over_fp32_base": large["lora on bfloat16"] / large["lora on float32"],
        "env_error": max(abs(row["forecast"] / row["peak"] - 1) for row in rows.values()),
        "cases": rows,
        "large": large,
        "environment": environment(),
    }


if __name__ == "__main__":
    main()
