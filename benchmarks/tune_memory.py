# SPDX-License-Identifier: Apache-2.0
"""Memory of tuning: what a base in 16 bits saves, and how far the forecast is from what is measured.

A small Llama in bfloat16 is tuned for two steps, each case in a process of its own. Measured is the peak of the memory
that no file lies behind (``RssAnon``, looked at every 5 ms), above that after the imports. Blocks are mapped one by one
(``MALLOC_MMAP_THRESHOLD_``): else the allocator of the C library keeps what was let go of, and its habits are measured.

================================  ====================================================================================
``lora_bf16_base_over_fp32_base``  peak of LoRA on a base held in bfloat16 over that on one in float32; the smaller the
                                   share of activations, the nearer to a half
``env_error``                      largest relative difference between forecast and measurement, of all cases
``fsdp_rank_over_single``          null: there is no sharding yet
================================  ====================================================================================

    python benchmarks/tune_memory.py --json benchmarks/results/tune_memory.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from reticent.core.manifest import environment

ROWS, TOKENS = 4, 128
CASES: dict[str, dict[str, Any]] = {
    "lora on float32": {"method": "lora", "base_dtype": "float32"},
    "lora on bfloat16": {"method": "lora"},
    "full": {"method": "full"},
}
SIZE = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "num_attention_heads": 8}


def save_base(folder: Path) -> str:
    """27 million numbers, in bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from reticent.testing.tiny import tiny_tokenizer

    config = LlamaConfig(**SIZE, vocab_size=8000, max_position_embeddings=512, tie_word_embeddings=False)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def forecast(base: str, case: dict[str, Any]) -> int:
    """Bytes at the peak, told beforehand."""
    from reticent.models.memory_count import count_model
    from reticent.models.memory_forecast import tune_memory

    return tune_memory(count_model(f"{base}/config.json", tokens=TOKENS, **case), rows=ROWS).peak


def measured(base: str, case: dict[str, Any]) -> int:
    """Bytes at the peak, in a process of its own."""
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--base", base, "--case", json.dumps(case)]
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1])


def _anonymous() -> int:
    with Path("/proc/self/status").open(encoding="utf-8") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))


def _tune_here(base: str, case: dict[str, Any]) -> int:
    from reticent.core.record import Record
    from reticent.train.config import TuneConfig
    from reticent.train.trainer import tune

    texts = [Record(id=str(i), text=("abcdefgh" * 100)[i : i + 4 * TOKENS]) for i in range(2 * ROWS)]
    config = TuneConfig(dtype="float32", epochs=1, batch_size=ROWS, max_tokens=TOKENS, **case)
    before, peak, ended = _anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.is_set():
            peak = max(peak, _anonymous())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        tune(base, texts, Path(folder) / "out", config)
    ended.set()
    watcher.join()
    return peak - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json")
    parser.add_argument("--base", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(_tune_here(given.base, json.loads(given.case)))
        return
    with tempfile.TemporaryDirectory() as folder:
        base = save_base(Path(folder) / "base")
        rows = {name: {"forecast": forecast(base, case), "peak": measured(base, case)} for name, case in CASES.items()}
    found = {
        "lora_bf16_base_over_fp32_base": rows["lora on bfloat16"]["peak"] / rows["lora on float32"]["peak"],
        "env_error": max(abs(row["forecast"] / row["peak"] - 1) for row in rows.values()),
        "fsdp_rank_over_single": None,
        "note": "fsdp_rank_over_single: each process holds the whole model",
        "cases": rows,
        "environment": environment(),
    }
    text = json.dumps(found, indent=2)
    print(text)
    if given.json:
        Path(given.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
