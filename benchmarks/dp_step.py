# SPDX-License-Identifier: Apache-2.0
"""What a differentially private training step costs over an ordinary one, and what Opacus' costs, in time and memory.

A step is forward, backward, clipping, noise and AdamW (fused), over and over on one batch of random tokens of the
model's own vocabulary, all rows of the same length. Weights and AdamW are float32; ``bf16`` means autocast.

================  ==================================================================================================
``plain``         the ordinary trainer's step: the model's own loss, ``backward``, AdamW; no clipping, no noise
``dp``            the product's: ``training_step`` of the private trainer (sampling, clipping, noise, self-check), AdamW
``opacus_hooks``  ``GradSampleModule`` and ``DPOptimizer`` around the same AdamW
``opacus_ghost``  ``GradSampleModuleFastGradientClipping``, its loss (two backward passes) and its optimizer
================  ==================================================================================================

For every row (tuning, dtype, batch, tokens) each side gets a fresh process with the same model, attention and threads.
Rounds follow in which each side has its turn, there and back, so that a machine that slows down slows all of them. A
turn is two steps, of which the second counts: steps follow each other in training, and the first one after a wait finds
caches and memory taken by the other side. Ratios are medians of the rounds' ratios; ``spread`` has their extremes.

``peak_over_plain`` compares ``peak_mb``, the kernel's high-water mark of resident memory (VmHWM) over all steps, set
back after loading: weights, libraries and all. ``loaded_mb`` is what was resident before the first step. Linux only.

``norms_off_by`` is how far the units' gradient norms of the first step are from ``dp``'s, relatively, at most: the
sides do the same work. A side that cannot run has null, and ``why`` says why.

    python benchmarks/dp_step.py --json benchmarks/results/dp_step.json
    python benchmarks/dp_step.py --rows full-bf16-8x128 lora-bf16-8x128
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SIDES = ("plain", "dp", "opacus_hooks", "opacus_ghost")
RATIOS = {
    "dp_over_plain": ("dp", "plain"),
    "opacus_hooks_over_dp": ("opacus_hooks", "dp"),
    "opacus_ghost_over_dp": ("opacus_ghost", "dp"),
}
MODEL = "smollm2-135m"
CLIP_NORM, NOISE_MULTIPLIER, SEED = 1.0, 1.0, 0
ROW_SECONDS, FEWEST, MOST = 420, 3, 15
"""Rounds of a row: as many as fit into so many seconds, within these bounds."""
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_MMAP_THRESHOLD_": "1000000000"}
"""glibc keeps what tensors free, as allocators in use for training do, instead of giving it back to the system and
taking it page by page in the next step, which can take half as long as the step on a virtual machine."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is trained and on how much: ``batch`` rows of ``tokens`` tokens."""

    tuning: str
    dtype: str
    batch: int
    tokens: int

    @property
    def name(self) -> str:
        return f"{self.tuning}-{self.dtype}-{self.batch}x{self.tokens}"


ROWS = {
    row.name: row
    for row in (
        Row(tuning=tuning, dtype=dtype, batch=batch, tokens=tokens)
        for batch, tokens in ((8, 128), (4, 512))
        for dtype in ("bf16", "fp32")
        for tuning in ("full", "lora")
    )
}

Step = Callable[[], list[float] | None]
"""Makes one step; the first time it gives the norms of the units' gradients, where it knows them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument(
        "--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument("--without-peers", action="store_true", help="the ordinary step and ours alone: more rounds")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        serve(given.side, ROWS[given.rows[0]])
        return
    from reticent.core.manifest import environment

    sides = SIDES[:2] if given.without_peers else SIDES
    started = time.perf_counter()
    machine = environment()
    result = []
    for name in given.rows:
        result.append(measure(ROWS[name], sides) | {"load_average": os.getloadavg()[0], "machine": machine})
        print(summary(result[-1]), file=sys.stderr)
        if given.json:  # after each row, so that a run that is cut off leaves what it has
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    if not given.json:
        print(json.dumps(result, indent=2))


def summary(row: dict[str, Any]) -> str:
    name = Row(**{field: row[field] for field in ("tuning", "dtype", "batch", "tokens")}).name
    shown = [f"{key} {row[key]:.3f}" for key in (*RATIOS, "peak_over_plain") if row[key] is not None]
    return f"{name}: {', '.join(shown)} ({row['rounds']} rounds)"


# ---- the parent: start the sides of a row, interleave their steps, compare ---------------------------------------


def measure(row: Row, compared: Sequence[str] = SIDES) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {}
    why: dict[str, str] = {}
    with processes(row, compared) as ask:
        said = {side: ask(side) for side in compared}  # ready; they load side by side
        said |= {side: said[side] | ask(side, "step") for side in compared if "error" not in said[side]}  # its norms
        why = {side: said[side]["error"] for side in compared if "error" in said[side]}
        needed = [f"{row.name}, {side}: {why[side]}" for side in ("plain", "dp") if side in why]
        if needed:
            raise SystemExit("\n".join(needed))
        sides = [side for side in compared if side not in why]
        rounds = MOST
        while len(seconds.get("plain", ())) < rounds:
            turn = sides if len(seconds.get("plain", ())) % 2 == 0 else sides[::-1]
            for side in turn:
                ask(side, "step")  # to warm up
                seconds.setdefault(side, []).append(ask(side, "step")["seconds"])
            round_takes = 2 * sum(times[0] for times in seconds.values())
            rounds = min(MOST, max(FEWEST, int(ROW_SECONDS // round_takes)))
        said = {side: said[side] | ask(side, "end") for side in sides}
    return asdict(row) | compare(seconds, said) | {"why": why}


def compare(seconds: dict[str, list[float]], said: dict[str, dict[str, Any]]) -> dict[str, Any]:
    ratios = {
        name: [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
        for name, (above, below) in RATIOS.items()
        if above in seconds
    }
    peak = {side: round(about["peak_mb"]) for side, about in said.items()}
    return {
        "dp_over_plain": statistics.median(ratios["dp_over_plain"]),
        "peak_over_plain": peak["dp"] / peak["plain"],
        **{name: statistics.median(ratios[name]) if name in ratios else None for name in RATIOS if name[0] == "o"},
        "spread": {name: [min(values), max(values)] for name, values in ratios.items()},
        "rounds": len(seconds["plain"]),
        "seconds": {side: statistics.median(times) for side, times in seconds.items()},
        "seconds_each": seconds,
        "peak_mb": peak,
        "loaded_mb": {side: round(about["loaded_mb"]) for side, about in said.items()},
        "norms_off_by": {
            side: max(abs(a / b - 1) for a, b in zip(about["norms"], said["dp"]["norms"], strict=True))
            for side, about in said.items()
            if about["norms"] and side != "dp"
        },
        "attention": said["plain"]["attention"],
        "threads": said["plain"]["threads"],
        "trained_parameters": said["plain"]["trained_parameters"],
    }


@contextmanager
def processes(row: Row, compared: Sequence[str]) -> Iterator[Callable[..., dict[str, Any]]]:
    """Start one process a side; yields ``ask(side, word)``, which sends a word and waits for the answer."""
    folder = tempfile.TemporaryDirectory()
    running = {
        side: subprocess.Popen(
            [sys.executable, Path(__file__).resolve(), "--rows", row.name, "--side", side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder.name,
            env=os.environ | KEEP_MEMORY,
        )
        for side in compared
    }

    def ask(side: str, word: str = "") -> dict[str, Any]:
        process = running[side]
        assert process.stdin is not None
        assert process.stdout is not None
        if word and process.poll() is None:
            process.stdin.write(word + "\n")
            process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            return {"error": f"the process ended with exit code {process.wait()}"}
        found: dict[str, Any] = json.loads(answer)
        return found

    try:
        yield ask
    finally:
        for process in running.values():
            process.terminate()
            process.wait()
        folder.cleanup()


# ---- a child: one side of one row --------------------------------------------------------------------------------


def serve(side: str, row: Row) -> None:
    """Load, say so, then answer each line on standard input ("step", "end") with one line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer

    def answer(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    try:
        step, about = prepare(side, row)
        about["loaded_mb"] = reset_peak()
        answer(**about)
        for line in sys.stdin:
            if line.strip() == "end":
                answer(peak_mb=memory("VmHWM"))
                return
            start = time.perf_counter()
            norms = step()
            answer(seconds=time.perf_counter() - start, norms=norms)
    except Exception as error:  # noqa: BLE001 - told to the parent, which records why a side cannot run
        answer(error=f"{type(error).__name__}: {str(error).splitlines()[0]}")


def prepare(side: str, row: Row) -> tuple[Step, dict[str, Any]]:
    import torch

    from reticent.models.load import load
    from reticent.models.tuning.method import TUNINGS
    from reticent.train.trainer import _PLAIN_ATTENTION

    torch.manual_seed(SEED)
    model = load(MODEL, dtype="float32", device="cpu").model
    if row.batch * row.tokens**2 <= _PLAIN_ATTENTION:
        model.set_attn_implementation("eager")
    attention = model.config._attn_implementation
    vocabulary = model.get_input_embeddings().weight.shape[0]
    method = TUNINGS.get(row.tuning)
    model = method(model, **({"r": 16} if row.tuning == "lora" else {})).train()
    ids = torch.randint(vocabulary, (row.batch, row.tokens), generator=torch.Generator().manual_seed(SEED))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=method.learning_rate, weight_decay=0.0, fused=True)
    autocast = torch.bfloat16 if row.dtype == "bf16" else None
    make = {"plain": plain, "dp": dp, "opacus_hooks": opacus_hooks, "opacus_ghost": opacus_ghost}[side]
    about = {
        "attention": attention,
        "threads": torch.get_num_threads(),
        "trained_parameters": sum(parameter.numel() for parameter in trained),
    }
    return make(model, inputs, optimizer, autocast), about


def plain(model: Any, inputs: dict[str, Any], optimizer: Any, autocast: Any) -> Step:
    import torch

    labels = inputs["input_ids"]

    def step() -> None:
        with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            loss = model(**inputs, labels=labels, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def dp(model: Any, inputs: dict[str, Any], optimizer: Any, autocast: Any) -> Step:
    import numpy as np
    import torch
    from transformers import TrainingArguments

    from reticent.models.encode import EncodedRecord
    from reticent.privacy.plan import make_plan
    from reticent.privacy.sampling import Population
    from reticent.privacy.spec import PrivacySpec
    from reticent.train.private.private_trainer import PrivateSpeed
    from reticent.train.private.train import PrivateTuneTrainer

    ids = inputs["input_ids"]
    batch, tokens = ids.shape
    # As many units as a batch holds on average: the rate is 1, and every step has all of them.
    people = Population(users=(None,) * batch, lengths=(tokens,) * batch)
    spec = PrivacySpec(noise_multiplier=NOISE_MULTIPLIER, clip_norm=CLIP_NORM)
    plan = make_plan(spec, people, batch_size=batch, steps=2 * MOST + 1, key=bytes(range(32)))
    trainer = PrivateTuneTrainer(
        plan=plan,
        population=people,
        speed=PrivateSpeed(autocast=autocast),
        model=model,
        args=TrainingArguments(
            tempfile.gettempdir(), use_cpu=True, max_grad_norm=0.0, report_to="none", disable_tqdm=True
        ),
        encoded=[
            EncodedRecord(token_id=row, trained=np.ones(tokens, np.bool_)) for row in ids.numpy().astype(np.int32)
        ],
        held_out=(),
        pad=0,
        autocast=autocast is not None,
    )
    trainer.optimizer = optimizer  # so that the self-check sees what it is given
    weight = torch.ones(batch)

    def step() -> list[float] | None:
        number = trainer.state.global_step
        norms = None
        if number == 0:  # to warm up, not measured
            with trainer.clipper.attached():
                norms = trainer.clipper.accumulate(inputs, ids, weight=weight).norm.tolist()
            trainer.clipper.take()
        trainer.training_step(model, {"step": number, "units": plan.sampler.batch(number)})
        optimizer.step()
        optimizer.zero_grad()
        trainer.state.global_step += 1
        trainer._step_done()
        return norms

    return step


def opacus_hooks(model: Any, inputs: dict[str, Any], optimizer: Any, autocast: Any) -> Step:
    import torch
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    labels = inputs["input_ids"]
    wrapped = GradSampleModule(model)
    private = DPOptimizer(
        optimizer,
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=CLIP_NORM,
        expected_batch_size=len(labels),
    )
    norms: list[float] = []

    def keep_norms(at: Any) -> None:
        each = torch.stack([one.flatten(1).float().norm(dim=1) for one in at.grad_samples])
        norms.extend(each.norm(dim=0).tolist())
        at.step_hook = None

    private.attach_step_hook(keep_norms)

    def step() -> list[float]:
        with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            loss = wrapped(**inputs, labels=labels, use_cache=False).loss
        loss.backward()
        private.step()
        private.zero_grad(set_to_none=True)
        return norms

    return step


def opacus_ghost(model: Any, inputs: dict[str, Any], optimizer: Any, autocast: Any) -> Step:
    import torch
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    wrapped = GradSampleModuleFastGradientClipping(model, max_grad_norm=CLIP_NORM)
    private = DPOptimizerFastGradientClipping(
        optimizer,
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=CLIP_NORM,
        expected_batch_size=len(inputs["input_ids"]),
    )
    private_loss = DPLossFastGradientClipping(wrapped, private, torch.nn.CrossEntropyLoss())
    next_ids = torch.nn.functional.pad(inputs["input_ids"][:, 1:], (0, 1), value=-100).flatten()  # as the model's own

    def step() -> list[float]:
        with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            logits = wrapped(**inputs, use_cache=False).logits.float()
        private_loss(logits.flatten(0, 1), next_ids, shape=logits.shape).backward()
        private.step()
        private.zero_grad(set_to_none=True)
        return wrapped.per_sample_gradient_norms.tolist()

    return step


def reset_peak() -> float:
    """Set the high-water mark to the present; returns what is resident now, MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(field: str) -> float:
    """A field of ``/proc/self/status`` in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) / 1024


if __name__ == "__main__":
    main()
