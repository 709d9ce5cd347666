# SPDX-License-Identifier: Apache-2.0
"""Does it forget? Every unlearning method on a fine-tuned model that knows TOFU's authors, beside retrained models.

Stages, each kept in ``--out`` and gone on with after a kill: fine-tune; check that the model knows what is to be
forgotten (an AUC below ``KNOWS`` ends it); unlearn by each method; train again without the forgotten authors
(``--oracles`` seeds); verify each; TOFU's own metrics of each. One JSON file gathers all that is there so far:

``models``  name → TOFU's metrics of the untouched, retrained and unlearned models
``runs``    name → method, seed, steps, seconds, verdict, all measured numbers of the verification

    python benchmarks/unlearn_tofu.py --data TOFU --out runs/tofu --tuning lora --json tofu_lora.json
    python benchmarks/unlearn_tofu.py --data TOFU --out runs/tofu --tuning lora --methods npo --seeds 3 --robustness \\
        --json tofu_lora.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from unlearn_tofu_data import author_of, chosen_authors, population, world_sets, write_population

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate
from reticent.core.manifest import environment, read_manifest
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.core.unlearning import UnlearningResults
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.coin import uniform
from reticent.data.read import read
from reticent.data.split_config import SplitConfig
from reticent.models.load import load
from reticent.stats.simultaneous import auc_number, sides, together
from reticent.stats.user_bootstrap import mean_of_rows
from reticent.train.config import TuneConfig
from reticent.train.unlearning.method import UNLEARNERS
from reticent.unlearning.benchmarks.answer_questions import answer_questions
from reticent.unlearning.benchmarks.questions import Question
from reticent.unlearning.benchmarks.rouge import rouge_l_recall
from reticent.unlearning.benchmarks.tofu import (
    PARTS,
    UtilityRows,
    forget_figures,
    model_utility,
    probability,
    truth_ratio,
    utility_rows,
)
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.retraining import retrain
from reticent.unlearning.run_rows import run_rows
from reticent.unlearning.verification.config import VerifyConfig
from reticent.workflows.tune import tune
from reticent.workflows.unlearn import unlearn
from reticent.workflows.verify import verify

KNOWS = 0.9
"""AUC of the loss, forget rows against unseen ones, below which there is nothing to forget."""
MAX_TOKENS, NEW_TOKENS, NEW_TOKENS_WORLD = 128, 32, 24
RETAIN_QUESTIONS = 40
MARGIN, LEAST = 0.2, 30
"""Fixed before the first look: half of 75 rows of 20 people against half of 190 show an AUC within 0.5 ± 0.2 with a
power of about 0.8, and no less."""
RATES = {"lora": 1e-3, "full": 5e-5}
BASE = "smollm2-135m"
SPLIT_SEED = 4
"""The first that trains on 240 to 250 answers and leaves eight authors with wrong answers among those that stay."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where everything lies.

    Args:
        data: TOFU's files.
        out: folder of all runs of one way of tuning.
        tuning: ``"lora"`` or ``"full"``.
        oracles: retrained models.
        suffix: of folders and files of these settings.
    """

    data: Path
    out: Path
    tuning: str
    oracles: int
    suffix: str = ""

    @property
    def run(self) -> RunFolder:
        return RunFolder(root=self.out / "tuned")

    def retrained(self, number: int) -> Path:
        return self.out / "retrained" / f"{number:03d}" / "model"

    def unlearned(self, method: str, seed: int) -> RunFolder:
        return RunFolder(root=self.out / f"{method}-{seed}{self.suffix}")


def tuned(stage: Stage, epochs: int) -> RunFolder:
    """Fine-tune, or return the run that is there."""
    stage.out.mkdir(parents=True, exist_ok=True)
    file = stage.out / "authors.jsonl"
    if not file.exists():
        write_population(stage.data, file)
    return tune(
        read(str(file), prompt_field="question", completion_field="answer", user_field="author", id_field="id").records,
        base=BASE,
        out=stage.run.root,
        title="TOFU",
        split_config=SplitConfig(
            split_unit="user", probability=0.6, train_fraction=0.8, known_fraction=0.0, split_seed=SPLIT_SEED
        ),
        canary_config=CanaryConfig(canaries=0),
        tune_config=TuneConfig(
            method=stage.tuning, epochs=epochs, learning_rate=RATES[stage.tuning], max_tokens=MAX_TOKENS
        ),
    )


def request_of(stage: Stage) -> tuple[ForgetRequest, list[Record], list[Record]]:
    """The request, the trained rows that it names, and those that stay."""
    rows = run_rows(stage.run)
    trained = [record for record, inside in zip(rows.records, rows.is_trained, strict=True) if inside]
    authors = chosen_authors(trained, population(stage.data))
    forget = [record for record in trained if author_of(record.id) in authors]
    retain = [record for record in trained if author_of(record.id) not in authors]
    return ForgetRequest(forget_users=tuple(authors)), forget, retain


def knows(stage: Stage, forget: Sequence[Record]) -> dict[str, Any]:
    """The AUC of the loss, forget rows against those of authors who are out, before anything is unlearned.

    Raises:
        SystemExit: the model does not know what is to be forgotten.
    """
    file = stage.out / "knows.json"
    if not file.exists():
        rows = run_rows(stage.run)
        out = rows.membership.user_member
        unseen = [record for record, inside in zip(rows.records, out, strict=True) if not inside]
        unseen = sorted(unseen, key=lambda record: uniform(0, "knows", record.id))[: 2 * len(forget)]
        loaded = load(str(stage.run.model))
        losses = [
            answer_questions(loaded, asked(stage, side), max_tokens=MAX_TOKENS).losses for side in (forget, unseen)
        ]
        users = np.array([name for side in losses for name in side.users or ()], dtype=object)
        scores = -np.concatenate([side.answer for side in losses])
        member = np.arange(len(scores)) < len(forget)
        auc = together([auc_number(scores, sides(member, users))], confidence=0.95)[0]
        probabilities = {
            name: asdict(mean_of_rows(probability(side.answer), side.users))
            for name, side in zip(("forget", "unseen"), losses, strict=True)
        }
        write_text(file, json.dumps({"auc": asdict(auc), "probability": probabilities}), private=False)
    about = dict(json.loads(file.read_text(encoding="utf-8")))
    if about["auc"]["value"] < KNOWS:
        raise SystemExit(f"the model knows too little of what is to be forgotten: AUC {about['auc']['value']:.2f}")
    return about


def retrained(stage: Stage, retain: Sequence[Record]) -> None:
    """Train again without the forgotten authors, with seeds of their own, as verification does."""
    for number in range(stage.oracles):
        folder = stage.retrained(number)
        folder.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        retrain(stage.run, retain, folder, seed=1 + number)
        print(f"retrained {number}: {time.perf_counter() - start:.0f} s", flush=True)


def lend_retrained(stage: Stage, run: RunFolder) -> None:
    """Put the retrained models where the verification of ``run`` looks for them."""
    for number in range(stage.oracles):
        place = run.retrained / f"{number:03d}" / "model"
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(stage.retrained(number), place, copy_function=_link)


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def metrics(stage: Stage, model: Path, forget: Sequence[Record], retain: Sequence[Record]) -> dict[str, Any]:
    """TOFU's numbers of one model, kept beside nothing of the user's: ``metrics/NAME.json``."""
    file = stage.out / "metrics" / f"{model.parent.name}-{model.parent.parent.name}.json"
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    questions = population(stage.data)
    loaded = load(str(model))
    about_forget = asked(stage, forget)
    answers = answer_questions(loaded, about_forget, max_tokens=MAX_TOKENS, new_tokens=NEW_TOKENS)
    rouge = rouge_l_recall([question.answer for question in about_forget], answers.texts)
    with_wrong = answers.losses.with_wrong()
    about: dict[str, Any] = {
        "forget": _plain(forget_figures(answers.losses, rouge)),
        "truth_ratio": truth_ratio(with_wrong.right, with_wrong.wrong, variant="paper").tolist(),
        "truth_ratio_code": truth_ratio(with_wrong.right, with_wrong.wrong, variant="code").tolist(),
        "users": list(with_wrong.users or ()),
    }
    known = sorted(retain, key=lambda record: (not questions[record.id].wrong_answers, record.id))[:RETAIN_QUESTIONS]
    sets = {"retain": tuple(asked(stage, known)), **world_sets(stage.data)}
    rows = {}
    for name, chosen in sets.items():
        answers = answer_questions(
            loaded, chosen, max_tokens=MAX_TOKENS, new_tokens=NEW_TOKENS if name == "retain" else NEW_TOKENS_WORLD
        )
        rouge = rouge_l_recall([question.answer for question in chosen], answers.texts)
        rows[name] = utility_rows(answers.losses, rouge, options=name != "retain", variant="paper")
    utility = model_utility(rows)
    about |= {"utility": asdict(utility.utility), "parts": _plain(utility.parts)}
    about["rows"] = {name: _columns(of) for name, of in rows.items()}
    file.parent.mkdir(exist_ok=True)
    write_text(file, json.dumps(about), private=False)
    return about


def asked(stage: Stage, records: Sequence[Record]) -> list[Question]:
    """The questions of ``records``, each with its author."""
    questions = population(stage.data)
    return [replace(questions[record.id], user=author_of(record.id)) for record in records]


def _columns(rows: UtilityRows) -> dict[str, Any]:
    """Values of each question, so that two models can be compared question by question."""
    columns: dict[str, Any] = {part: getattr(rows, part).tolist() for part in PARTS}
    return columns | {"users": None if rows.users is None else list(rows.users)}


def _plain(estimates: dict[str, Estimate]) -> dict[str, Any]:
    return {name: asdict(estimate) for name, estimate in estimates.items()}


def about_run(run: RunFolder, results: UnlearningResults, seconds: dict[str, float]) -> dict[str, Any]:
    """The numbers of one verified unlearning."""
    return {
        "method": results.method.get("method"),
        "seed": results.method.get("seed"),
        "settled": results.method,
        "seconds": seconds,
        "stopped_at": results.stopped_at,
        "looks": [look.step for look in results.looks],
        "verdict": asdict(results.verdict),
        "margin": results.margin,
        "words": {check.name: check.word for check in results.checks if check.ran},
        "sentences": {check.name: check.sentence for check in results.checks if check.ran},
        "counts": results.counts,
        "measured": [
            {
                "check": number.check,
                "model": number.model,
                "role": number.role,
                "what": number.what,
                "metric": number.metric,
                "word": number.word,
                "estimate": [number.estimate.value, number.estimate.lo, number.estimate.hi, number.estimate.n],
            }
            for check in results.checks
            for number in check.measured
        ],
        "bars": [
            {
                "treatment": bar.treatment,
                "model": bar.model,
                "role": bar.role,
                "auc": [bar.auc.value, bar.auc.lo, bar.auc.hi, bar.auc.n],
            }
            for check in results.checks
            for bar in check.bars
        ],
    }


def methods_of(stage: Stage, asked: Sequence[str]) -> Iterator[str]:
    """The methods to run: those asked for, or all that this way of tuning allows."""
    for name in asked or [method.name for method in UNLEARNERS]:
        if name == "shards":
            continue  # of runs made in shards only
        if stage.tuning == "lora" and UNLEARNERS.get(name).needs_all_weights:
            print(f"{name}: only for whole models", flush=True)
            continue
        yield name


def one_method(
    stage: Stage, method: str, seed: int, request: ForgetRequest, given: argparse.Namespace
) -> dict[str, Any] | None:
    """Unlearn by one method, verify; None where nothing was kept."""
    run, kept = stage.unlearned(method, seed), stage.out / "results" / f"{method}-{seed}{stage.suffix}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    kept.parent.mkdir(exist_ok=True)
    start = time.perf_counter()
    names = ("learning_rate", "forget_weight", "retain_weight")
    settings = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    loss = UNLEARNERS.get(method).kind == "loss"
    config = UnlearnConfig(
        method=method,
        seed=seed,
        epochs=given.epochs_unlearning if loss and not UNLEARNERS.get(method).collapse else None,
        every=given.every if loss and not UNLEARNERS.get(method).collapse else None,
        retain_budget=given.retain_budget,
        **settings,
    )
    try:
        unlearn(stage.run, out=run.root, forget=request, config=config)
    except BadInput as refusal:
        print(f"{method}-{seed}: {refusal}", flush=True)
        about = {"method": method, "seed": seed, "refused": str(refusal)}
        write_text(kept, json.dumps(about), private=False)
        return about
    seconds = {"unlearn": time.perf_counter() - start}
    lend_retrained(stage, run)
    start = time.perf_counter()
    config_of_checks = VerifyConfig(margin=MARGIN, least=LEAST, robustness=given.robustness)
    results = verify(run, config_of_checks, oracles=stage.oracles)
    seconds["verify"] = time.perf_counter() - start
    about = about_run(run, results, seconds)
    write_text(kept, json.dumps(about), private=False)
    print(f"{method}-{seed}: {seconds}; {results.verdict.headline}", flush=True)
    return about


def gather(stage: Stage) -> dict[str, Any]:
    """All that is there so far, as one mapping."""

    def contents(folder: str) -> dict[str, Any]:
        files = sorted((stage.out / folder).glob("*.json"))
        return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}

    tune_about = read_manifest(stage.run.manifest).get("tune", {})
    return {
        "tuning": stage.tuning,
        "training": tune_about.get("training"),
        "knows": knows(stage, ()),
        "models": _rounded(contents("metrics"), 4),
        "runs": _rounded(_controls_once(contents("results")), 6),
        "environment": environment(),
    }


def _controls_once(runs: dict[str, Any]) -> dict[str, Any]:
    """The runs, with the numbers of untouched, retrained and base models in the first alone: all have the same."""
    verified = [run for run in runs.values() if "refused" not in run]
    for run in verified[1:]:
        run["measured"] = [row for row in run["measured"] if row["role"] == "after"]
    return runs


def _rounded(content: Any, digits: int) -> Any:
    """The same with shorter numbers."""
    if isinstance(content, float):
        return round(content, digits)
    if isinstance(content, dict):
        return {name: _rounded(value, digits) for name, value in content.items()}
    return [_rounded(value, digits) for value in content] if isinstance(content, list) else content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of TOFU's files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--tuning", choices=("lora", "full"), default="lora")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--oracles", type=int, default=5)
    parser.add_argument("--methods", nargs="*", default=[], help="all that fit, where none is named")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--robustness", action="store_true")
    parser.add_argument("--epochs_unlearning", type=int, default=5)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--learning_rate", type=float)
    parser.add_argument("--forget_weight", type=float)
    parser.add_argument("--retain_weight", type=float)
    parser.add_argument("--retain_budget", type=float, default=0.05)
    parser.add_argument("--suffix", default="", help="of folders and results, to keep other settings apart")
    given = parser.parse_args()
    stage = Stage(
        data=given.data, out=given.out / given.tuning, tuning=given.tuning, oracles=given.oracles, suffix=given.suffix
    )
    start = time.perf_counter()
    tuned(stage, given.epochs)
    print(f"tuned: {time.perf_counter() - start:.0f} s", flush=True)
    request, forget, retain = request_of(stage)
    print(f"{len(forget)} rows of {len(request.forget_users or ())} authors go, {len(retain)} stay", flush=True)
    print(knows(stage, forget), flush=True)
    metrics(stage, stage.run.model, forget, retain)
    for method in methods_of(stage, given.methods):
        for seed in range(given.seeds):
            if stage.oracles and not stage.retrained(stage.oracles - 1).exists():
                retrained(stage, retain)
            for number in range(stage.oracles):
                metrics(stage, stage.retrained(number), forget, retain)
            about = one_method(stage, method, seed, request, given)
            if about and "refused" not in about:
                metrics(stage, stage.unlearned(method, seed).model, forget, retain)
            write_text(given.json, json.dumps(gather(stage)) + "\n", private=False)


if __name__ == "__main__":
    main()
