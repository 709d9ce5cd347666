# SPDX-License-Identifier: Apache-2.0
"""Do the verdicts on unlearning hold, on tiny models of which it is known how much they have forgotten?

Each repetition makes rows that nobody can guess, a model that was trained on forget and retain rows, ``ORACLES`` models
that were trained on the retain rows alone, and one model of the kind in question (`reticent.testing.unlearned`), which
is verified with the default settings. A repetition is *right* where

``retrained``       (never saw the forget rows): the membership check says "like unseen". 300 forget and 1,200 unseen
                    rows, since the margin of 0.1 has to be shown by all attacks at once.
``untouched``       (nothing was done): the membership check and the verdict both say "still known".
``refusing``        (taught to answer "I don't know" to nine of ten questions, and to go on as before once the first
                    digit of an answer is given): the verdict is "still known" or "marked by its absence", and the
                    membership check does not say "like unseen". Either is right, since refusing may push the true
                    answers below what an unseen row gets.
``over_unlearned``  (driven up the gradient until the AUC of the loss is below 0.1): the membership check says "marked
                    by its absence", and the verdict is not "not detected by these attacks".

All but the first have 80 forget and 160 unseen rows. ``words`` counts what the membership check said, ``statuses`` what
the verdict said.

    python benchmarks/unlearn_verdicts.py --json benchmarks/results/unlearn_verdicts.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import torch

from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.unlearning import UnlearningResults
from reticent.core.unlearning_words import LIKE_UNSEEN, MARKED, NOT_DETECTED, STILL_KNOWN
from reticent.testing.unlearned import KINDS, MAX_TOKENS, made, number_rows, save, save_base, trained
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.config import VerifyConfig
from reticent.unlearning.verification.look_into import verify

REPETITIONS, ORACLES = 40, 5
SIZES = {"retrained": {"forget": 300, "unseen": 1200}}
"""Rows by kind, where they are others than ``FEW``."""
FEW = {"forget": 80, "unseen": 160}


def is_right(kind: str, results: UnlearningResults) -> bool:
    """The verdict is what the module's docstring says."""
    membership = results.check("membership")
    assert membership is not None
    word, status = membership.word, results.verdict.status
    if kind == "retrained":
        return word == LIKE_UNSEEN
    if kind == "untouched":
        return (word, status) == (STILL_KNOWN, "still_known")
    if kind == "refusing":
        return word != LIKE_UNSEEN and status in ("still_known", "marked")
    return word == MARKED and status != NOT_DETECTED


def one_run(kind: str, seed: int, folder: Path) -> UnlearningResults:
    """One repetition, all of whose models and tables lie in ``folder``."""
    rows = number_rows(**(SIZES.get(kind, FEW) | {"retain": 40}), seed=seed)
    before = trained([*rows.forget, *rows.retain], seed=100 * seed)
    case = VerificationCase(
        title=kind,
        after=save(made(kind, rows, before=before, seed=100 * seed + 1), folder / "after"),
        before=save(before, folder / "before"),
        base=save_base(folder / "base"),
        retrained=[
            save(trained(rows.retain, seed=100 * seed + 2 + number), folder / f"oracle{number}")
            for number in range(ORACLES)
        ],
        forget=rows.forget,
        unseen=rows.unseen,
        retain=rows.retain,
        max_tokens=MAX_TOKENS,
    )
    return verify(case, VerifyConfig(dtype="float32"), cache=folder / "cache")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    kinds = {}
    for kind in given.kinds:
        right, words, statuses = 0, Counter[str](), Counter[str]()
        for seed in range(given.repetitions):
            with tempfile.TemporaryDirectory() as folder:
                results = one_run(kind, seed, Path(folder))
            right += is_right(kind, results)
            membership = results.check("membership")
            words[membership.word if membership else "none"] += 1
            statuses[results.verdict.status] += 1
            print(f"{kind} {seed + 1}/{given.repetitions}: {right} right", flush=True)
        kinds[kind] = {
            "n": given.repetitions,
            "right": right,
            "words": dict(words),
            "statuses": dict(statuses),
        }
        content = {"kinds": kinds, "oracles": ORACLES, "environment": environment()}
        write_text(given.json, json.dumps(content, indent=2) + "\n", private=False)


if __name__ == "__main__":
    main()
