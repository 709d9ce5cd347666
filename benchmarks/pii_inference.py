# SPDX-License-Identifier: Apache-2.0
"""PII inference on one's own lines: does a fine-tuned model know whose name belongs in a text?

``--data`` holds lines of JSON with ``prompt`` and ``target``, the value that follows the prompt. Each line becomes a
record, cut at the front so that its end fits into ``--max-tokens``. A coin for each record decides whether the model is
fine-tuned on it. Then 100 values of its own side, the true one among them, are put behind each prompt and ranked by
log p, by the fine-tuned model and by its base (arXiv:2302.00539). Of its own side, since fine-tuning lifts every value
that it was trained on, wherever it is asked for: on a list of both sides held-out values would fall below chance.

Lines are left out until each value, and each beginning of a prompt, comes once and no chosen record has the value of
another one in its text: else a record that was held out would have been seen in part.

What comes out: top-1, top-5 and mean reciprocal rank for records trained on and held out, by both models, with paired
differences, and what training on a record adds (trained on minus held out). Intervals are those of
`reticent.stats.proportions`, 95 % each. The JSON has no text of the data in it.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

BEGINNING = 60
"""Characters of a prompt by which two prompts of one paragraph are told."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="lines of JSON with prompt and target")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--model", default="smollm2-135m", help="catalogue name, folder or hub id")
    parser.add_argument("--records", type=int, default=250)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--method", default="full")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path, help="keep the run folder here; it holds the data")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = run(given, given.out or Path(scratch) / "run")
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def run(given: argparse.Namespace, out: Path) -> dict[str, Any]:
    import torch

    from reticent.auditing.case import from_run
    from reticent.auditing.models import open_models
    from reticent.core.manifest import environment
    from reticent.train.config import TuneConfig
    from reticent.workflows.tune import SplitConfig, tune

    started = time.perf_counter()
    records = read(given)
    folder = tune(
        records,
        base=given.model,
        out=out,
        split_config=SplitConfig(split_unit="record", known_fraction=0.0, split_seed=given.seed),
        tune_config=TuneConfig(
            method=given.method,
            epochs=given.epochs,
            learning_rate=given.learning_rate,
            max_tokens=given.max_tokens + 1,  # and the token that ends a text
            dtype=given.dtype,
            seed=given.seed,
        ),
    )
    tuned = time.perf_counter()
    subject = from_run(folder)
    ranks = rank(subject, open_models(subject, dtype=given.dtype, device="auto"), given)
    member = subject.membership.member
    return {
        "scored_models": {
            name: figures(ranks["target"][side], ranks["base"][side])
            for name, side in (("trained_on", member), ("held_out", ~member))
        },
        "trained_on_minus_held_out": {
            name: figures_apart(ranks[name][member], ranks[name][~member]) for name in ("target", "base", "calibrated")
        },
        "calibrated": {
            name: figures(ranks["calibrated"][side], None)
            for name, side in (("trained_on", member), ("held_out", ~member))
        },
        "chance": chances(given.candidates),
        "records": len(records),
        "members": int(member.sum()),
        "settings": {name: value for name, value in vars(given).items() if name not in ("data", "json", "out")},
        "seconds": {"tune": tuned - started, "rank": time.perf_counter() - tuned},
        "threads": torch.get_num_threads(),
        "hardware": environment(),
    }


# ---- the lines ----------------------------------------------------------------------------------------------------


def read(given: argparse.Namespace) -> list[Any]:
    """Records with a span on the value at their end."""
    from reticent.core.record import Record, Span
    from reticent.models.load import load

    lines = [json.loads(line) for line in given.data.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = [line for line in lines if line["prompt"].strip() and line["target"].strip()]
    random.Random(given.seed).shuffle(lines)
    tokenizer = load(given.model, device="cpu").tokenizer
    records: list[Any] = []
    values: list[str] = []
    beginnings: set[str] = set()
    for line in lines:
        value, beginning = line["target"], line["prompt"][:BEGINNING]
        prompt = shortened(line["prompt"], value, tokenizer, given.max_tokens)
        seen = any(value in record.text or its in prompt + value for record, its in zip(records, values, strict=True))
        if not prompt or seen or beginning in beginnings:
            continue
        beginnings.add(beginning)
        values.append(value)
        span = Span(start=len(prompt), end=len(prompt) + len(value), kind="PERSON")
        records.append(Record(id=f"r{len(records):04d}", text=prompt + value, spans=(span,)))
        if len(records) == given.records:
            return records
    raise SystemExit(f"only {len(records)} lines can be told apart; ask for fewer --records")


def shortened(prompt: str, value: str, tokenizer: Any, most: int) -> str:
    """The end of the prompt, from the start of a word on, so that prompt and value have at most ``most`` tokens."""
    found = tokenizer(prompt + value, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if len(found) <= most:
        return prompt
    start = prompt.find(" ", found[len(found) - most][0])
    return prompt[start + 1 :] if start >= 0 else ""


# ---- ranks --------------------------------------------------------------------------------------------------------


def rank(subject: Any, models: Any, given: argparse.Namespace) -> dict[str, Any]:
    """``[N]`` ranks of the true values by the fine-tuned model, by its base, and by what fine-tuning added."""
    from reticent.attacks.pii import CandidateRanking
    from reticent.attacks.pii.inference import inference
    from reticent.attacks.pii.inference_calibrated import inference_calibrated
    from reticent.auditing.models import scored_models
    from reticent.core.progress import progress
    from reticent.score.candidates.memory import steady_heap
    from reticent.score.candidates.rank import score_candidates

    blanks, truth = questions(subject.records, subject.membership.member, given)
    found = {}
    for name, side in zip(("target", "base"), scored_models(models), strict=True):
        engine = side.engine
        with side.answering(), steady_heap(), progress(f"Ranking ({name})", len(blanks), unit="places") as advance:
            scores = score_candidates(engine, models.target.tokenizer, blanks, advance=advance)
        found[name] = CandidateRanking(logp=[one.logp for one in scores], truth=truth)
    return {
        "target": inference(found["target"]),
        "base": inference(found["base"]),
        "calibrated": inference_calibrated(found["target"], found["base"]),
    }


def questions(records: Sequence[Any], member: Any, given: argparse.Namespace) -> tuple[list[Any], Any]:
    """A blank for each record: its value among others of its side."""
    from reticent.score.candidates.masked import MaskedSpan

    rng = random.Random(given.seed)
    values = [record.plain[record.spans[0].start :] for record in records]
    blanks, truth = [], []
    for record, value, side in zip(records, values, member, strict=True):
        alike = [other for other, its in zip(values, member, strict=True) if its == side and other != value]
        if len(alike) < given.candidates - 1:
            raise SystemExit(f"only {len(alike) + 1} values on one side; ask for more --records or fewer --candidates")
        others = rng.sample(alike, given.candidates - 1)
        place = rng.randrange(given.candidates)
        others.insert(place, value)
        span = record.spans[0]
        blanks.append(MaskedSpan(record=record, start=span.start, end=span.end, candidates=tuple(others)))
        truth.append(place)
    return blanks, np.array(truth, dtype=np.int64)


# ---- figures ------------------------------------------------------------------------------------------------------


def metrics(ranks: Any) -> dict[str, Any]:
    from reticent.attacks.pii.ranks import reciprocal, top

    return {"top_1": top(ranks, 1), "top_5": top(ranks, 5), "mrr": reciprocal(ranks)}


def chances(candidates: int) -> dict[str, float]:
    from reticent.attacks.pii.ranks import chance

    return {"top_1": chance([candidates], 1), "top_5": chance([candidates], 5), "mrr": chance([candidates])}


def figures(target: Any, base: Any | None) -> dict[str, Any]:
    """Both models on the same records, and the paired difference."""
    from reticent.stats.proportions import paired_difference, share

    mine = metrics(target)
    if base is None:
        return {name: asdict(share(values)) for name, values in mine.items()}
    theirs = metrics(base)
    return {
        name: {
            "target": asdict(share(mine[name])),
            "base": asdict(share(theirs[name])),
            "difference": asdict(paired_difference(mine[name], theirs[name])),
        }
        for name in mine
    }


def figures_apart(trained: Any, held_out: Any) -> dict[str, Any]:
    """Records trained on minus records held out, by one model."""
    from reticent.stats.proportions import difference

    mine, others = metrics(trained), metrics(held_out)
    return {name: asdict(difference(mine[name], others[name])) for name in mine}


if __name__ == "__main__":
    main()
