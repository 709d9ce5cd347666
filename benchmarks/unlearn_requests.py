# SPDX-License-Identifier: Apache-2.0
"""Ten requests in a row, and one request for all ten: on the model that `unlearn_tofu.py` tuned.

The forgotten authors are dealt by hash to ``REQUESTS`` requests. Each is unlearned from the model that the one before
left, with ``--retain_budget`` of its own on top of what those before it used up. After each, one pass over the rows of
*all* requests, of authors who were never trained on, and of those that stay gives the AUC of every request (an AUC of a
few rows of two people, so its interval is wide) and the loss of the rest.

    python benchmarks/unlearn_requests.py --data TOFU --out runs/tofu --json unlearn_requests.json
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from unlearn_tofu import MAX_TOKENS, Stage, asked, metrics, request_of
from unlearn_tofu_data import author_of

from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.data.coin import uniform
from reticent.models.load import load
from reticent.stats.simultaneous import auc_number, sides, together
from reticent.stats.user_bootstrap import mean_of_rows
from reticent.unlearning.benchmarks.answer_questions import answer_questions
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.looks import nearest_in_budget
from reticent.unlearning.parents import chain
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.retain_budget import spent
from reticent.unlearning.run_rows import run_rows
from reticent.unlearning.stopping import read_looks
from reticent.workflows.unlearn import unlearn

REQUESTS = 10
UNSEEN, RETAIN = 100, 80


def dealt(forget: Sequence[Record]) -> list[list[str]]:
    """Authors of each request."""
    authors = sorted({author_of(record.id) for record in forget}, key=lambda author: uniform(0, "requests", author))
    return [sorted(authors[number::REQUESTS]) for number in range(REQUESTS)]


def looked_at(
    stage: Stage,
    model: Path,
    requests: Sequence[Sequence[str]],
    forget: Sequence[Record],
    retain: Sequence[Record],
) -> dict[str, Any]:
    """AUC of the loss of each request's rows against unseen ones, and the loss of the rows that stay."""
    rows = run_rows(stage.run)
    inside = rows.membership.user_member
    unseen = [record for record, trained in zip(rows.records, inside, strict=True) if not trained]
    unseen = sorted(unseen, key=lambda record: uniform(0, "knows", record.id))[:UNSEEN]
    staying = sorted(retain, key=lambda record: uniform(0, "knows", record.id))[:RETAIN]
    loaded = load(str(model))
    loss = {}
    for name, records in (("forget", forget), ("unseen", unseen), ("retain", staying)):
        questions = asked(stage, records)
        loss[name] = answer_questions(loaded, questions, max_tokens=MAX_TOKENS).losses.answer
    aucs = []
    for authors in requests:
        named = np.array([author_of(record.id) in authors for record in forget])
        scores = -np.concatenate([loss["forget"][named], loss["unseen"]])
        users = [author_of(record.id) for record, chosen in zip(forget, named, strict=True) if chosen]
        users += [author_of(record.id) for record in unseen]
        member = np.arange(len(scores)) < named.sum()
        number = auc_number(scores, sides(member, np.array(users, dtype=object)))
        aucs.append(asdict(together([number], confidence=0.95)[0]))
    owners = tuple(author_of(record.id) for record in staying)
    return {
        "aucs": aucs,
        "retain_loss": asdict(mean_of_rows(loss["retain"], owners, within=(0.0, math.inf), unit="nats a token")),
        "unseen_loss": float(loss["unseen"].mean()),
        "forget_loss": [
            float(loss["forget"][[author_of(record.id) in authors for record in forget]].mean()) for authors in requests
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of TOFU's files")
    parser.add_argument("--out", type=Path, required=True, help="of unlearn_tofu.py")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--retain_budget", type=float, default=0.05)
    given = parser.parse_args()
    stage = Stage(data=given.data, out=given.out / "lora", tuning="lora", oracles=0)
    _, forget, retain = request_of(stage)
    requests = dealt(forget)
    steps: list[dict[str, Any]] = [looked_at(stage, stage.run.model, requests, forget, retain)]
    before = stage.run
    for number, authors in enumerate(requests, start=1):
        run = RunFolder(root=stage.out / f"request-{number:02d}")
        start = time.perf_counter()
        unlearn(
            before,
            out=run.root,
            forget=ForgetRequest(forget_users=tuple(authors)),
            config=UnlearnConfig(retain_budget=spent(chain(before).links) + given.retain_budget),
        )
        seconds = time.perf_counter() - start
        looks = read_looks(run.looks)
        about = {"seconds": seconds, "steps": nearest_in_budget(looks) if looks else None, "authors": len(authors)}
        steps.append(about | looked_at(stage, run.model, requests, forget, retain))
        print(f"request {number}: {seconds:.0f} s, {[round(auc['value'], 2) for auc in steps[-1]['aucs']]}", flush=True)
        before = run
        write(given.json, stage, steps, {})
    utility = {"in a row": metrics(stage, before.model, forget, retain)}
    at_once = stage.unlearned("npo", 0)
    if at_once.model.exists():
        utility["at once"] = metrics(stage, at_once.model, forget, retain)
        steps.append({"at once": looked_at(stage, at_once.model, requests, forget, retain)})
    write(given.json, stage, steps, utility)


def write(file: Path, stage: Stage, steps: Sequence[dict[str, Any]], utility: dict[str, Any]) -> None:
    content = {"tuning": stage.tuning, "steps": steps, "utility": utility, "environment": environment()}
    write_text(file, json.dumps(content, indent=1) + "\n", private=False)


if __name__ == "__main__":
    main()
