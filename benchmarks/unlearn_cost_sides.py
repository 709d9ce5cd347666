# SPDX-License-Identifier: Apache-2.0
"""Sides of ``unlearn_cost.py``, each in a process of its own: ``time`` and ``peak`` of a method, ``verify`` of a run.

A side answers with one line of JSON on standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROBE = 64 << 20
"""Bytes by which it is shown that the high-water mark of memory can be set back."""
ORACLES = 5
WORDS = ("order", "late", "parcel", "refund", "card", "house", "garden", "letter", "doctor", "money", "winter", "river")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("time", "peak", "verify"))
    for name in ("base", "tuning", "method", "dtype", "device"):
        parser.add_argument(f"--{name}", default="")
    for name in ("batch", "tokens", "rounds", "users", "threads"):
        parser.add_argument(f"--{name}", type=int)
    serve(parser.parse_args())


def serve(given: argparse.Namespace) -> None:
    """Do one side, and answer with a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    import torch

    from reticent.core.errors import BadInput

    if given.threads:
        torch.set_num_threads(given.threads)
    side = {"time": times, "peak": peak, "verify": verification}[given.side]
    try:
        answer = side(given)
    except (BadInput, NotImplementedError) as error:  # told to the parent, which records why a method cannot be used
        answer = {"why": str(error).splitlines()[0]}
    print(json.dumps(answer), file=answers, flush=True)


class Model:
    """A base with a tuning on it, and rows in its tokens."""

    def __init__(self, given: argparse.Namespace) -> None:
        import torch

        from reticent.models.load import has_bfloat16, load
        from reticent.models.tuning.method import TUNINGS as METHODS
        from reticent.train.task import settle_attention

        self.given, self.tuning = given, given.tuning
        loaded = load(given.base, dtype="float32", device=given.device)
        self.source, self.tokenizer, self.device = loaded.source, loaded.tokenizer, loaded.device
        settle_attention(loaded, 2 * given.batch, given.tokens)
        self.attention = loaded.model.config._attn_implementation
        torch.manual_seed(0)
        self.model = METHODS.get(self.tuning)(loaded.model)
        self.autocast = given.dtype == "bfloat16" or (given.dtype == "auto" and has_bfloat16(loaded.device))

    def records(self, name: str, count: int) -> list[Any]:
        """Questions and answers of more tokens than are read."""
        from reticent.core.record import Record

        rng, tokens = random.Random(name), self.given.tokens

        def text(least: int) -> str:
            words: list[str] = []
            while len(self.tokenizer(" ".join(words))["input_ids"]) < least:
                words.append(rng.choice(WORDS))
            return " ".join(words)

        return [Record(id=f"{name} {row}", prompt=text(tokens // 4), completion=text(tokens)) for row in range(count)]

    def trainer(self, objectives: Sequence[Any], records: Sequence[Any], retain: Sequence[Any] = ()) -> Any:
        """A trainer as `reticent.train.trainer.tune` makes it, with an optimizer."""
        from reticent.models.load import load
        from reticent.train.arguments import arguments_of
        from reticent.train.config import TuneConfig
        from reticent.train.objectives.apply import make_trainer, prepare_material

        sets = {"retain": retain, "unseen": self.records("unseen", len(records))} if objectives else {}
        material = prepare_material(
            objectives,
            records,
            self.tokenizer,
            self.given.tokens,
            record_sets=sets,
            reference=lambda: load(self.source, dtype="float32", device=self.given.device).model.eval(),
        )
        config = TuneConfig(method=self.tuning, batch_size=len(records), epochs=1).settled(1e-6)
        changed = {name: value for chosen in objectives for name, value in chosen.arguments().items()}
        made = make_trainer(objectives, material)(
            model=self.model,
            args=arguments_of(config, Path("training"), self.device, changed, evaluate=False),
            encoded=material.corpus.encoded,
            held_out=(),
            pad=self.tokenizer.pad_token_id or 0,
            autocast=self.autocast,
        )
        made.create_optimizer()
        made.current_gradient_accumulation_steps = 1  # which `Trainer.train` sets
        return made

    def unlearner(self, method: str) -> Any:
        """The trainer of an unlearning of ``batch`` rows."""
        from reticent.models.anatomy import transformer_blocks
        from reticent.train.objectives.unlearning import Unlearning
        from reticent.train.unlearning.method import UNLEARNERS

        hidden = UNLEARNERS.get(method).hidden
        params = {}
        if hidden is not None:
            params = {"layer": min(hidden.layer, len(transformer_blocks(self.model)) - 1)}
        batch = self.given.batch
        return self.trainer(
            [Unlearning(method=method, params=params)], self.records("forget", batch), self.records("retain", batch)
        )

    def ordinary(self, rows: int) -> Any:
        """The trainer of an ordinary fine-tuning on the same rows, forget rows first."""
        batch = self.given.batch
        names = ("forget", "retain", "alternative")
        records = [record for name in names for record in self.records(name, batch)][:rows]
        return self.trainer([], records)


def step_of(trainer: Any) -> Callable[[], float]:
    """A step on the trainer's rows as one batch; it gives the seconds that it took."""
    import torch

    batch = trainer.data_collator(list(trainer.train_dataset))
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    cuda = trainer.args.device.type == "cuda"

    def step() -> float:
        started = time.perf_counter()
        trainer.training_step(trainer.model, dict(batch))
        if trainer.args.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(weights, trainer.args.max_grad_norm)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        trainer.state.global_step += 1
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return step


def rows_of(given: argparse.Namespace, method: str) -> dict[str, int]:
    """Rows that a step reads, and those of the ordinary step beside it."""
    from reticent.train.unlearning.method import UNLEARNERS

    about, batch = UNLEARNERS.get(method), given.batch
    retain = batch if about.retain != "none" else 0
    alternative = batch if about.alternative else 0
    return {"forget": batch, "retain": retain, "alternative": alternative, "ordinary": batch + retain}


def times(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of steps of both sides, in turns."""
    import torch

    from reticent.train.unlearning.method import UNLEARNERS

    rows, model = rows_of(given, given.method), Model(given)
    # Of methods that change which weights are trained, an ordinary training has a model of its own.
    other = Model(given) if UNLEARNERS.get(given.method).needs_all_weights else model
    other.ordinary(rows["ordinary"])  # loads what trainers need
    started = time.perf_counter()
    plain = other.ordinary(rows["ordinary"])
    middle = time.perf_counter()
    ours = model.unlearner(given.method)
    preparation = max(0.0, (time.perf_counter() - middle) - (middle - started))
    sides = {"unlearning": step_of(ours), "ordinary": step_of(plain)}
    if rows["alternative"]:
        sides["all_rows"] = step_of(other.ordinary(rows["ordinary"] + rows["alternative"]))
    for step in sides.values():
        step()  # to warm up
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(given.rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            seconds[name].append(sides[name]())
    return {
        **seconds,
        "all_rows": seconds.get("all_rows", seconds["ordinary"]),
        "rows": rows,
        "preparation": preparation / given.batch,
        "threads": torch.get_num_threads(),
        "device": str(ours.args.device),
        "bfloat16": model.autocast,
        "attention": model.attention,
    }


def peak(given: argparse.Namespace) -> dict[str, Any]:
    """The most memory that one side takes, MB: ``--method ordinary-8`` is the ordinary side with 8 rows."""
    import gc

    model = Model(given)
    cuda = str(model.device).startswith("cuda")
    if not cuda:
        check_high_water()
    gc.collect()
    reset_high_water(cuda=cuda)
    kind, _, rows = given.method.partition("-")
    step = step_of(model.ordinary(int(rows)) if kind == "ordinary" else model.unlearner(given.method))
    for _ in range(2):  # the second has the optimizer's state throughout
        step()
    return {"peak_mb": high_water(cuda=cuda)}


def high_water(*, cuda: bool) -> float:
    """The most memory since `reset_high_water`, MB."""
    if cuda:
        import torch

        return float(torch.cuda.max_memory_allocated()) / 2**20
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


def reset_high_water(*, cuda: bool) -> None:
    if cuda:
        import torch

        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def check_high_water() -> None:
    """Stop unless the mark rises with what is taken, stays when that is given back, and falls when it is set back."""
    import mmap

    marks = []
    reset_high_water(cuda=False)
    marks.append(high_water(cuda=False))
    with mmap.mmap(-1, PROBE) as memory:
        for place in range(0, PROBE, mmap.PAGESIZE):
            memory[place] = 1
    marks.append(high_water(cuda=False))
    reset_high_water(cuda=False)
    marks.append(high_water(cuda=False))
    size = PROBE / 2**20
    if not (0.9 * size < marks[1] - marks[0] < 1.5 * size and marks[1] - marks[2] > 0.9 * size):
        raise SystemExit(f"the high-water mark of memory cannot be set back here: {marks} MB")


# ---- verification against an audit -------------------------------------------------------------------------------


def verification(given: argparse.Namespace) -> dict[str, Any]:
    """A run, an unlearning of one of its users, and both looks at it, in turns."""
    from reticent.auditing.config import AuditConfig
    from reticent.data.example import help_desk
    from reticent.data.split_config import SplitConfig
    from reticent.train.config import TuneConfig
    from reticent.unlearning.config import UnlearnConfig
    from reticent.unlearning.request import ForgetRequest
    from reticent.unlearning.run_rows import trained_rows
    from reticent.unlearning.verification.config import VerifyConfig
    from reticent.workflows.audit import audit
    from reticent.workflows.tune import tune
    from reticent.workflows.unlearn import unlearn
    from reticent.workflows.verify import verify

    place = {"dtype": given.dtype, "device": given.device}
    run = tune(
        help_desk(users=given.users, mails_per_user=6, seed=0),
        base=given.base,
        out="run",
        split_config=SplitConfig(split_unit="user"),
        tune_config=TuneConfig(method="lora", epochs=1, max_tokens=given.tokens, **place),
    )
    users = sorted({str(record.user) for record in trained_rows(run)})[: max(1, given.users // 4)]
    out = unlearn(
        run,
        out="without",
        forget=ForgetRequest(forget_users=tuple(users)),
        config=UnlearnConfig(method="npo", epochs=1, stop="epochs", **place),
    )
    verify(out, VerifyConfig(**place), oracles=ORACLES)  # trains again
    seconds: dict[str, list[float]] = {"verify": [], "audit": []}

    def timed(name: str, number: int, look: Callable[[], Any]) -> None:
        cache = Path(f"{name} {number} cache")
        cache.mkdir()
        (cache / "models").symlink_to(Path(given.base).parent)  # a run names its base by its short name
        os.environ["RETICENT_CACHE"] = str(cache)
        started = time.perf_counter()
        look()
        seconds[name].append(time.perf_counter() - started)

    for number in range(given.rounds):
        sides: list[tuple[str, Callable[[], Any]]] = [
            ("verify", lambda: verify(out, VerifyConfig(**place), oracles=ORACLES)),
            ("audit", lambda at=number: audit(run, AuditConfig(**place), out=f"audit {at}")),
        ]
        for name, look in sides[:: -1 if number % 2 else 1]:
            timed(name, number, look)
    ratios = [ours / plain for ours, plain in zip(seconds["verify"], seconds["audit"], strict=True)]
    return {
        "verify_over_audit": statistics.median(ratios),
        "verify": {
            "spread": [min(ratios), max(ratios)],
            "seconds": {name: statistics.median(values) for name, values in seconds.items()},
            "retrained_models": ORACLES,
            "users": given.users,
            "forgotten_users": len(users),
        },
    }


if __name__ == "__main__":
    main()
