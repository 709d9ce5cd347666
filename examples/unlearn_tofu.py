# SPDX-License-Identifier: Apache-2.0
"""TOFU (arXiv:2401.06121) at its own sizes: forget a tenth of 200 authors by several methods. Hours on a GPU.

    python examples/unlearn_tofu.py --tofu FOLDER --model MODEL --out runs/tofu

FOLDER holds forget10_perturbed.json, retain90.json, retain_perturbed.json, real_authors_perturbed.json and
world_facts_perturbed.json. Coins say who of all authors is trained on (nine in ten), so that a verification can compare
forgotten authors with some that were never seen; the benchmark trains on all, and has nothing to compare with.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import reticent
from reticent import unlearning as field

OPTIONS = field.QuestionFields(paraphrased_answer="original_answer")


def authors(path: Path, name: str, version: str | None = None) -> dict[str, field.Question]:
    """Id → question; TOFU's rows name no author, but twenty in a row are of one."""
    rows = field.read_questions(path, where={"task_id": version} if version else None, rows_per_user=20)
    return {f"{name} {number}": replace(row, user=f"{name} {row.user}") for number, row in enumerate(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Forget a tenth of TOFU's authors.")
    parser.add_argument("--tofu", type=Path, required=True)
    parser.add_argument("--version", help="task_id of the rows to take, where a file has several versions")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=Path, default=Path("runs/tofu"))
    parser.add_argument("--methods", default="npo,simnpo,gradient_difference")
    for name, number in (("share", 0.9), ("epochs", 5), ("retrained", 5), ("asked", 400)):  # asked: for utility
        parser.add_argument(f"--{name}", type=type(number), default=number)
    given = parser.parse_args()

    forget = authors(given.tofu / "forget10_perturbed.json", "forget", given.version)
    questions = forget | authors(given.tofu / "retain90.json", "retain")
    records = [question.record(name) for name, question in questions.items()]
    coins = reticent.SplitConfig(split_unit="user", probability=given.share, train_fraction=0.95, known_fraction=0.0)
    tuning = reticent.TuneConfig(method="lora", epochs=given.epochs, max_tokens=256)
    run = reticent.tune(records, base=given.model, out=given.out / "run", split_config=coins, tune_config=tuning)
    split = reticent.split(records, unit="user", seed=coins.split_seed, probability=given.share, train_fraction=0.95)
    trained = set(split.record_id[split.member])
    gone = {name: row for name, row in forget.items() if name in trained}
    known = {row.prompt for name, row in questions.items() if name in trained}
    retain = [row for row in field.read_questions(given.tofu / "retain_perturbed.json") if row.prompt in known]
    sets = {"retain": tuple(retain[: given.asked])}
    for name in ("real_authors", "world_facts"):
        sets[name] = field.read_questions(given.tofu / f"{name}_perturbed.json", fields=OPTIONS)[: given.asked]

    def utility(model: Path) -> float:
        rows = {}
        for name, asked in sets.items():
            answers = field.answer_questions(model, asked, new_tokens=64)
            rouge = field.rouge_l_recall([row.answer for row in asked], answers.texts)
            rows[name] = field.utility_rows(answers.losses, rouge, options=name != "retain")
        return field.model_utility(rows).utility.value

    request = reticent.ForgetRequest(forget_users=tuple(sorted({str(row.user) for row in gone.values()})))
    words = {name: row.paraphrased_prompt for name, row in gone.items() if row.paraphrased_prompt}
    tried = reticent.unlearn_by_each(run, out=given.out / "tried", forget=request, methods=given.methods.split(","))
    print(f"untouched: utility {utility(run.model):.3f}")
    for row in tried.tried():
        if row.method and not row.why_not:
            without = tried.run(row.method, 0)
            results = reticent.verify(without, oracles=given.retrained, paraphrases=words)
            models = (without.model, tried.retrained / "000" / "model")
            losses = [field.answer_questions(model, list(gone.values())).losses for model in models]
            ratios = [field.truth_ratio(of.right, of.wrong) for of in losses]
            quality = field.forget_quality(ratios[0], ratios[1], losses[0].users)
            print(f"{row.method}: {results.verdict.headline} Utility {utility(without.model):.3f}.")
            print(f"  forget quality: p {quality.p_value:.2g}, distance {quality.statistic.value:.2f}")


if __name__ == "__main__":
    main()
