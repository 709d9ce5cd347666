# SPDX-License-Identifier: Apache-2.0
"""A model shared out over several GPUs against the same training on one: weights, and memory of each GPU.

A Llama with random weights is tuned for a few steps in float32: the whole model, an adapter, and the whole model
privately with a given key. Each training runs in processes of its own; on GPUs they talk over NCCL.

===========================  ===========================================================================================
``largest_difference``       between a weight of the one outcome and of the other; 1e-6 or so is rounding. Not of the
                             private case on GPUs of different kinds, which may draw other noise
``peak_one``, ``peak_rank``  bytes that tensors took on the GPU at most, of the largest process; null on the CPU
===========================  ===========================================================================================

    python benchmarks/gpu/shared_out.py --processes 2 --json shared_out.json
    python benchmarks/gpu/shared_out.py --processes 2 --device cpu --hidden 64  # a trial without GPUs
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CASES: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "lora": {"method": "lora"},
    "private": {"method": "full", "noise_multiplier": 0.5},
}
ROWS, TOKENS, LAYERS = 8, 64, 4


def save_base(folder: Path, hidden: int) -> str:
    """A base whose head and embeddings are small beside its blocks."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from reticent.testing.tiny import tiny_tokenizer

    shape = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": LAYERS}
    LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=4, vocab_size=2000)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def train_here(base: str, out: Path, case: dict[str, Any], device: str) -> None:
    """One process of a training; says what its tensors took at most."""
    import torch

    from reticent.core.record import Record
    from reticent.privacy.spec import PrivacySpec
    from reticent.train.config import TuneConfig
    from reticent.train.leading import led
    from reticent.train.trainer import tune

    sigma = case.pop("noise_multiplier", None)
    texts = [Record(id=str(i), text=f"order {i * 7919 % 1000} of a customer " * 8) for i in range(4 * ROWS)]
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    settings = {"epochs": 1, "batch_size": ROWS, "max_tokens": TOKENS, "dtype": "float32", "optimizer": "sgd"}
    settings |= {"learning_rate": 1e-2, "device": device, "strategy": "fsdp" if several else "ddp"}
    config = TuneConfig(**settings | case)
    privacy = None if sigma is None else PrivacySpec(noise_multiplier=sigma)
    led("the benchmark", lambda: config, lambda: tune(base, texts, out, config, privacy=privacy))
    print(f"peak {torch.cuda.max_memory_allocated() if device == 'cuda' else -1}", flush=True)


def peak_of(base: str, out: Path, case: dict[str, Any], device: str, processes: int) -> int | None:
    """Train in processes of its own; the peak of the largest."""
    from reticent.train.private.step_log import KEY

    folder = out.with_name(f".{out.name}.training")
    folder.mkdir()
    (folder / KEY).write_bytes(bytes(range(32)))
    command = [__file__, "--base", base, "--out", str(out), "--case", json.dumps(case), "--device", device]
    if processes > 1:
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *command]
    done = subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True)
    peak = max(int(number) for number in re.findall(r"peak (-?\d+)", done.stdout))
    return peak if peak >= 0 else None


def largest_difference(one: Path, two: Path) -> float:
    """Between the weights in two folders."""
    from safetensors.torch import load_file

    (name,) = (path.name for path in one.glob("*.safetensors"))
    mine, theirs = load_file(one / name), load_file(two / name)
    return max(float((mine[key] - theirs[key]).abs().max()) for key in mine)


def compared(device: str, processes: int, hidden: int) -> dict[str, Any]:
    """Each case, in one process and in several."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = save_base(Path(folder) / "base", hidden)
        for name, case in CASES.items():
            one, two = Path(folder) / f"{name}_one", Path(folder) / f"{name}_two"
            peaks = {"peak_one": peak_of(base, one, case, device, 1)}
            peaks |= {"peak_rank": peak_of(base, two, case, device, processes)}
            rows[name] = {"largest_difference": largest_difference(one, two), **peaks}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--hidden", type=int, default=2048, help="width of the model")
    for name in ("base", "out", "case"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        train_here(given.base, Path(given.out), json.loads(given.case), given.device)
        return
    from reticent.core.manifest import environment

    rows = compared(given.device, given.processes, given.hidden)
    text = json.dumps({"cases": rows, "processes": given.processes, "environment": environment()}, indent=2)
    print(text)
    if given.json:
        Path(given.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
