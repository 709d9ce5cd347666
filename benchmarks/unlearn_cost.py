# SPDX-License-Identifier: Apache-2.0
"""What a step of unlearning costs over an ordinary one, in time and memory; and a verification over an audit.

For each tuning and each method that is a loss, one process holds a model and two trainers on it, made as
`reticent unlearn` and `reticent tune` make theirs: the one unlearns ``--batch`` forget rows beside as many retain rows
(where the method has a term for those), the *ordinary* one is trained on the same rows as one batch. A step is
forward, backward, clipping and the optimizer. Rows have ``--tokens`` tokens, a quarter of them a prompt. The sides are
in ``unlearn_cost_sides.py``.

``step_over_training_step``  median over rounds of (unlearning step / ordinary step). Both sides step in each round,
                             there and back, so that a machine that slows down slows both; ``spread``: the extremes.
``rows``                     of the two sides. Methods with alternatives read further rows, which the ordinary step has
                             not; ``step_over_all_rows`` is over an ordinary step with as many rows as are read.
``reference_logits``         the model before unlearning is asked in each step. Else it enters as a number a row, if
                             at all.
``peak_over_training_step``  each side in a process of its own, from before the trainer is made, so that copies of
                             weights and models that are loaded on the way count. On CUDA ``max_memory_allocated``,
                             elsewhere VmHWM after it was set back (``/proc/self/clear_refs``); each process first makes
                             sure that setting it back works, and stops where it does not.
``seconds_over_retrain``     ``epochs`` passes of the method (its authors' number) over ``SHARE`` of the rows, and its
                             preparation of these (reference numbers, alternatives, tokens to be forgotten; seconds
                             beyond making an ordinary trainer, so with few rows an upper bound), over
                             training again on the others for the default epochs of `reticent tune`, all by the steps
                             measured here. No looks, nothing saved. One request for one person is about that share.
``verify_over_audit``        `reticent verify` without robustness, with models that were trained again beforehand, over
                             `reticent audit` of the run at its defaults; each from an empty cache, in turns.

A method that cannot be used on a tuning has null, and ``why`` says why.

    python benchmarks/unlearn_cost.py --json benchmarks/results/unlearn_cost.json
    python benchmarks/unlearn_cost.py --base tiny --rounds 2 --users 24 --tokens 48
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TUNINGS = ("lora", "full")
TINY = "tiny"
SIDES = Path(__file__).resolve().with_name("unlearn_cost_sides.py")
SHARE = 0.02
"""Of the rows of a run that a request takes out."""
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_MMAP_THRESHOLD_": "1000000000"}
"""glibc keeps what tensors free instead of taking it from the system page by page in the next step, see `dp_step`."""


def main() -> None:
    given = arguments()
    from reticent.core.manifest import environment

    started = time.perf_counter()
    with base_folder(given.base) as base:
        given.base = base
        result: dict[str, Any] = {"methods": [], "verify_over_audit": None}
        result |= {"machine": environment(), **{name: getattr(given, name) for name in ("batch", "tokens", "rounds")}}
        ordinary: dict[tuple[str, int], float] = {}
        for tuning in given.tunings:
            for method in given.methods or loss_methods():
                row = measure(given, tuning, method, ordinary)
                result["methods"].append(row | {"load_average": os.getloadavg()[0]})
                print(summary(row), file=sys.stderr)
                write(given.json, result)  # so that a run that is cut off leaves what it has
        if given.users:
            outcome = child(given, "verify")
            if "why" in outcome:
                raise SystemExit(f"verify: {outcome['why']}")
            result |= outcome
            print(f"verify_over_audit {result['verify_over_audit']:.2f}", file=sys.stderr)
        write(given.json, result)
    if not given.json:
        print(json.dumps(result, indent=2))
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the outcome here")
    parser.add_argument("--base", default="smollm2-135m", help=f"whole model; {TINY!r} makes one, to try this out")
    parser.add_argument("--methods", nargs="+", help="left out, all that are a loss")
    parser.add_argument("--tunings", nargs="+", choices=TUNINGS, default=list(TUNINGS))
    parser.add_argument("--batch", type=int, default=4, help="forget rows of a step")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=40, help="of the run that is verified and audited; 0 for neither")
    parser.add_argument("--threads", type=int, default=0, help="left out, as many as torch takes")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def loss_methods() -> list[str]:
    from reticent.train.unlearning.method import UNLEARNERS, method_names

    return [name for name in method_names() if UNLEARNERS.get(name).kind == "loss"]


def write(path: Path | None, result: Mapping[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def summary(row: Mapping[str, Any]) -> str:
    name = f"{row['tuning']} {row['method']}"
    if row["why"]:
        return f"{name}: {row['why']}"
    names = ("step_over_training_step", "step_over_all_rows", "peak_over_training_step", "seconds_over_retrain")
    return f"{name}: " + ", ".join(f"{key} {row[key]:.3f}" for key in names)


@contextmanager
def base_folder(name: str) -> Iterator[str]:
    """The folder of the base, which the sides find whatever their cache is."""
    if name != TINY:
        from reticent.models.locate import locate

        yield str(locate(name))
        return
    from reticent.testing.tiny import save_tiny

    with tempfile.TemporaryDirectory() as folder:
        yield str(save_tiny(Path(folder) / "base"))


# ---- the parent --------------------------------------------------------------------------------------------------


def measure(
    given: argparse.Namespace, tuning: str, method: str, ordinary: dict[tuple[str, int], float]
) -> dict[str, Any]:
    """One method on one tuning.

    Args:
        ordinary: peaks of ordinary steps (MB) by tuning and rows, which are measured once.
    """
    from reticent.train.config import EPOCHS
    from reticent.train.unlearning.method import UNLEARNERS
    from reticent.train.unlearning.unlearn_trainer import PER_STEP

    about = UNLEARNERS.get(method)
    row: dict[str, Any] = {
        "method": method,
        "tuning": tuning,
        "reference_logits": bool(about.all_needs & PER_STEP),
        "step_over_training_step": None,
        "step_over_all_rows": None,
        "peak_over_training_step": None,
        "seconds_over_retrain": None,
        "why": "",
    }
    if about.needs_all_weights and tuning != "full":
        return row | {"why": "it changes weights of the model itself, and is refused on an adapter"}
    timed = child(given, "time", tuning, method)
    peak = timed if "why" in timed else child(given, "peak", tuning, method)
    if "why" in peak:
        return row | {"why": peak["why"]}
    rows = timed["rows"]
    same = (tuning, rows["ordinary"])
    if same not in ordinary:
        ordinary[same] = child(given, "peak", tuning, f"ordinary-{rows['ordinary']}")["peak_mb"]
    ratios = [ours / plain for ours, plain in zip(timed["unlearning"], timed["ordinary"], strict=True)]
    whole = [ours / plain for ours, plain in zip(timed["unlearning"], timed["all_rows"], strict=True)]
    epochs = about.epochs or EPOCHS
    per_row = {
        "unlearn": epochs * statistics.median(timed["unlearning"]) / rows["forget"] + timed["preparation"],
        "retrain": EPOCHS * statistics.median(timed["ordinary"]) / rows["ordinary"],
    }
    return row | {
        "step_over_training_step": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
        "step_over_all_rows": statistics.median(whole),
        "peak_over_training_step": peak["peak_mb"] / ordinary[same],
        "seconds_over_retrain": SHARE * per_row["unlearn"] / ((1 - SHARE) * per_row["retrain"]),
        "epochs": epochs,
        "retrain_epochs": EPOCHS,
        "rows": rows,
        "seconds": {name: statistics.median(timed[name]) for name in ("unlearning", "ordinary", "all_rows")},
        "preparation_seconds_a_row": timed["preparation"],
        "peak_mb": {"unlearning": peak["peak_mb"], "ordinary": ordinary[same]},
        **{name: timed[name] for name in ("threads", "device", "bfloat16", "attention")},
    }


def child(given: argparse.Namespace, side: str, tuning: str = "", method: str = "") -> dict[str, Any]:
    """Run a side in a process of its own; its answer, or ``why`` there is none."""
    words = [side, "--base", given.base, "--dtype", given.dtype, "--device", given.device]
    for name in ("batch", "tokens", "rounds", "users", "threads"):
        words += [f"--{name}", str(getattr(given, name))]
    words += ["--tuning", tuning] if tuning else []
    words += ["--method", method] if method else []
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(SIDES), *words],
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | KEEP_MEMORY | {"RETICENT_CACHE": f"{folder}/cache"},
            check=False,
        )
    if done.returncode or not done.stdout:
        raise SystemExit(f"{side} {tuning} {method} ended with exit code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
