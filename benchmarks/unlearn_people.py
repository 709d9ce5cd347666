# SPDX-License-Identifier: Apache-2.0
"""One person at a time: take senders out of a fine-tuned model, each from the same start, and hold them to retraining.

``--people`` senders are drawn by hash among those with trained rows, before any score is looked at. Each is unlearned
by itself with the default method. Models that are trained again leave *all* of these senders out, so that ``--oracles``
trainings serve all: beside the one sender they lack the others', which makes them know a little less.

    python benchmarks/unlearn_people.py --run runs/mails --out runs/people --json unlearn_people.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unlearn_tofu import about_run

from reticent.core.atomic import write_text
from reticent.core.finding import Estimate
from reticent.core.manifest import environment, read_manifest
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.core.unlearning import UnlearningResults
from reticent.data.coin import uniform
from reticent.report.certificate_page import write_certificate_page
from reticent.report.unlearning_file import write_certificate, write_unlearning
from reticent.report.unlearning_page import write_unlearning_page
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.looks import nearest_in_budget
from reticent.unlearning.request import ForgetRequest
from reticent.unlearning.request_file import read_request
from reticent.unlearning.request_plan import RequestPlan, plan_request
from reticent.unlearning.retraining import retrain
from reticent.unlearning.run_rows import run_rows
from reticent.unlearning.stopping import read_looks
from reticent.unlearning.unseen_file import read_unseen
from reticent.unlearning.verification.case import VerificationCase
from reticent.unlearning.verification.certificate import certificate_of
from reticent.unlearning.verification.config import VerifyConfig
from reticent.unlearning.verification.look_into import verify
from reticent.workflows.unlearn import unlearn

RETAIN, UNSEEN = 48, 64
"""Retained and never trained rows that are looked at: one person is one unit, however many others there are."""


def trained_rows(run: RunFolder) -> list[Record]:
    """What the model of ``run`` was trained on."""
    rows = run_rows(run)
    return [record for record, inside in zip(rows.records, rows.is_trained, strict=True) if inside]


def drawn_people(trained: Sequence[Record], count: int) -> list[str]:
    """Senders by hash."""
    people = sorted({record.user for record in trained if record.user is not None})
    return sorted(people, key=lambda user: uniform(0, "people", user))[:count]


def retrained(run: RunFolder, retain: Sequence[Record], out: Path, count: int) -> list[str]:
    """Folders of models without any of the people, with seeds of their own."""
    folders = []
    for number in range(count):
        folder = out / "retrained" / f"{number:03d}" / "model"
        folder.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        retrain(run, retain, folder, seed=1 + number)
        print(f"retrained {number}: {time.perf_counter() - start:.0f} s", flush=True)
        folders.append(str(folder))
    return folders


def verified(run: RunFolder, root: RunFolder, retain: Sequence[Record], models: Sequence[str]) -> UnlearningResults:
    """Look into one unlearning beside ``models``, and write its pages."""
    rows = run_rows(run)
    looks = read_looks(run.looks)

    def judged(entries: Sequence[Any], part: str) -> list[Record]:
        return [rows.records[rows.place[entry.record_id]] for entry in entries if entry.part == part]

    case = VerificationCase(
        title="A sender, deleted",
        after=str(run.model),
        before=str(root.model),
        base=None,
        retrained=models,
        forget=judged(read_request(run.request), "judge"),
        unseen=_first(judged(read_unseen(run.unseen), "judge"), UNSEEN),
        retain=_first(retain, RETAIN),
        max_tokens=read_manifest(root.manifest).get("tune", {}).get("max_tokens"),
        method={"method": "npo"},
        request={"forget_users": "one sender"},
        looks=[look.shown for look in looks],
        stopped_at=nearest_in_budget(looks) if looks else None,
    )
    results = verify(case, VerifyConfig())
    digest = write_unlearning(run.unlearning, results)
    write_unlearning_page(run.report, results)
    certificate = certificate_of(results, results_sha256=digest)
    write_certificate(run.certificate, certificate)
    write_certificate_page(run.certificate_page, certificate)
    return results


def _first(records: Sequence[Record], count: int) -> list[Record]:
    """So many of them, by hash."""
    return sorted(records, key=lambda record: uniform(0, "verification", record.id))[:count]


def rank_of_loss(results: UnlearningResults) -> dict[str, Any]:
    """Mean loss of the sender's rows after and before, beside the retrained models' prediction interval, and how many
    of these lie below the unlearned model."""
    check = results.check("among_retrained")
    assert check is not None
    table = check.section.tables[0]
    row = dict(zip((column.name for column in table.columns), table.rows[0], strict=True))
    assert row["statistic"] == "mean loss"
    interval = row["retrained"]
    assert isinstance(interval, Estimate)
    return {
        "after": row["unlearned"],
        "before": row["untouched"],
        "base": row["base"],
        "retrained": [interval.value, interval.lo, interval.hi],
        "below": row["below"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run folder of reticent tune, with users")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--oracles", type=int, default=5)
    given = parser.parse_args()
    run = RunFolder(root=given.run)
    given.out.mkdir(parents=True, exist_ok=True)
    trained = trained_rows(run)
    people = drawn_people(trained, given.people)
    retain = [record for record in trained if record.user not in people]
    first_training = json.loads((run.model / "train_log.json").read_text(encoding="utf-8"))
    models = retrained(run, retain, given.out, given.oracles)
    outcomes: list[dict[str, Any]] = []
    for number, person in enumerate(people, start=1):
        folder = RunFolder(root=given.out / f"person-{number:02d}")
        request = ForgetRequest(forget_users=(person,))
        plan = plan_request(run, request)
        start = time.perf_counter()
        unlearn(run, out=folder.root, forget=request, config=UnlearnConfig())
        unlearning = time.perf_counter() - start
        start = time.perf_counter()
        results = verified(folder, run, retain, models)
        reasons = Counter(row.reason for row in read_request(folder.request))
        outcome = about_run(folder, results, {"unlearn": unlearning, "verify": time.perf_counter() - start})
        outcome |= {"rank": rank_of_loss(results), "rows": dict(reasons), "plan": copies(plan), "trained": len(trained)}
        outcomes.append(outcome)
        print(f"person {number}: {unlearning:.0f} s, {outcome['rank']}, {results.verdict.headline}", flush=True)
        content = {"people": outcomes, "training": first_training, "environment": environment()}
        write_text(given.json, json.dumps(content, indent=1) + "\n", private=False)


def copies(plan: RequestPlan) -> dict[str, int]:
    """Quoted copies of the person's rows: in other people's rows that were trained on, and in unseen ones."""
    return {"copies": len(plan.forget.copies), "unclean_unseen": len(plan.forget.unclean)}


if __name__ == "__main__":
    main()
