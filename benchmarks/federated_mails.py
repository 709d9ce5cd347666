# SPDX-License-Identifier: Apache-2.0
"""What a federation learns and gives away on mails, beside the same training in one place: a row for each treatment.

Clients are the senders with enough mails (or made-up people). Coins are those of the seed, the same in each row, so
that all are held against the same senders that took no part.

==============  =====================================================================================================
``centralised``  `reticent tune`, all texts in one place
``federated``    the same clients, apart; nothing is promised
``client``       with a promise to each client, drawn by coins (``--epsilon``)
``flower``       as ``client``, with the noise that the accountant of Flower 1.42 asks for at the same ε and δ: it knows
                 no amplification by sampling
``record``       with a promise to each record, by noise inside clients
``secure``       with a promise to each client against the server too; needs the package cryptography
==============  =====================================================================================================

Of each row: ``loss_change``, nats a token on unseen senders, less that of the base (mean over senders, below 0 is
better, t interval over senders, the first ``--unseen`` texts of each); AUC of records and of senders with their
intervals, by the strongest of the attacks; the promise; seconds. Runs are folders in ``--work`` and rows are files
there: a second call goes on where it was, and the file of results holds the rows of all calls.

    OMP_NUM_THREADS=1 python benchmarks/federated_mails.py --data ../shared/data --local_steps 2 --batch_size 4 \
        --work runs/mails --json benchmarks/results/federated_mails.json
    OMP_NUM_THREADS=1 python benchmarks/federated_mails.py --made_up 4000 --least 4 --tokens 32 \
        --clients_per_round 200 --local_steps 1 --batch_size 4 --methods lora --treatments client,federated,flower \
        --delta 1e-5 --seeds 0 --unseen 1 --work runs/desk --json benchmarks/results/federated_desk.json
    python benchmarks/federated_mails.py --tiny --work /tmp/mails --json /tmp/mails.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from backdoor_runs import stage
from federated_epsilon import flower_noise

from reticent.auditing.config import AuditConfig
from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.manifest import environment
from reticent.core.membership import read_membership
from reticent.core.record import Record, read_records
from reticent.core.run_folder import RunFolder
from reticent.data.example import help_desk
from reticent.data.read import read
from reticent.data.split_config import SplitConfig
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.record_privacy import RecordPrivacy
from reticent.federated.secure.secure_spec import SecureAggregation
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.models.locate import locate
from reticent.stats.means import difference_of_means
from reticent.testing.tiny import save_tiny
from reticent.train.config import TuneConfig
from reticent.train.held_out import held_out_loss
from reticent.workflows.audit import audit
from reticent.workflows.federate import FederationRecipe, federate
from reticent.workflows.tune import tune

TREATMENTS = ("centralised", "federated", "client", "flower", "record", "secure")
METHODS = {
    "lora": {"method": "lora"},
    "ffa": {"method": "lora", "exchange": "ffa"},
    "ia3": {"method": "ia3"},
}


def mails(given: argparse.Namespace) -> list[Record]:
    """Texts with their senders."""
    if given.tiny or given.made_up:
        return help_desk(users=given.made_up, mails_per_user=given.least, seed=0)
    path = given.data / "spamassassin" / "ham_by_sender.jsonl.gz"
    records = read(str(path), text_field="body", user_field="from").records
    counts: dict[str | None, int] = {}
    for record in records:
        counts[record.user] = counts.get(record.user, 0) + 1
    list_mail = "rssfeeds@spamassassin.taint.org"  # no person
    return [record for record in records if counts[record.user] >= given.least and record.user != list_mail]


def recipe_of(given: argparse.Namespace, method: str, treatment: str, seed: int) -> FederationRecipe:
    """Settings of a federation."""
    spec = FederationSpec(
        rounds=given.rounds,
        clients_per_round=given.clients_per_round,
        local_steps=given.local_steps,
        local_batch_size=given.batch_size,
        max_tokens=given.tokens,
        seed=seed,
        **METHODS[method],
    )
    noise = flower_noise(given.rounds, given.delta, given.epsilon)
    promises: dict[str, Any] = {
        "client": {"privacy": ClientPrivacy(epsilon=given.epsilon, delta=given.delta, clip_norm=given.clip_norm)},
        "flower": {"privacy": ClientPrivacy(noise_multiplier=noise, delta=given.delta, clip_norm=given.clip_norm)},
        "record": {"record_privacy": RecordPrivacy(record_epsilon=given.epsilon)},
        "secure": {
            "privacy": ClientPrivacy(
                epsilon=given.epsilon, delta=given.delta, clip_norm=given.clip_norm, sampling="shuffled"
            ),
            "secure": SecureAggregation(secure_aggregation=True),
        },
    }
    return FederationRecipe(federation=spec, split=coins(seed), **promises.get(treatment, {}))


def coins(seed: int) -> SplitConfig:
    """Of senders, the same in each row."""
    return SplitConfig(split_unit="user", copies="user", split_seed=seed)


def trained(given: argparse.Namespace, records: list[Record], base: str, cell: tuple[str, str, int]) -> RunFolder:
    """The run of a row; one that is there already is gone on with."""
    method, treatment, seed = cell
    out = given.work / "-".join(map(str, cell))
    if treatment != "centralised":
        return federate(records, base=base, out=out, recipe=recipe_of(given, method, treatment, seed))
    config = TuneConfig(
        method=METHODS[method]["method"],
        epochs=given.epochs,
        batch_size=given.batch_size,
        max_tokens=given.tokens,
        seed=seed,
    )
    return tune(records, base=base, out=out, split_config=coins(seed), tune_config=config)


def losses(given: argparse.Namespace, model: str, base: str, run: RunFolder) -> dict[str, float]:
    """Nats a token of each sender who took no part, over a few rows of at most ``tokens`` tokens."""
    loaded = load(model, base=base, dtype="float32") if model != base else load(base, dtype="float32")
    membership = read_membership(run.membership)
    unseen = {str(i) for i in membership.record_id[~membership.user_member]}
    by_sender: dict[str, list[Any]] = {}
    for record in read_records(run.records):
        rows = by_sender.setdefault(record.user, []) if record.id in unseen and record.user is not None else None
        if rows is not None and len(rows) < given.unseen:
            row = encode(record, loaded.tokenizer, max_tokens=given.tokens)
            rows += [row] if row.predicted else []
    pad = loaded.tokenizer.pad_token_id or 0
    return {
        sender: held_out_loss(loaded.model, rows=rows, size=8, pad=pad, bfloat16=False)
        for sender, rows in sorted(by_sender.items())
        if rows
    }


def outcome(given: argparse.Namespace, records: list[Record], base: str, cell: tuple[str, str, int]) -> dict[str, Any]:
    """One row."""
    began = time.perf_counter()
    run = trained(given, records, base, cell)
    seconds = time.perf_counter() - began
    before = stage(given.work, f"base-{cell[2]}", lambda: losses(given, base, base, run))
    after = losses(given, str(run.model), base, run)
    senders = sorted(set(before) & set(after))
    apart = difference_of_means(
        [after[sender] for sender in senders], [before[sender] for sender in senders], senders, senders
    )
    results = audit(run, AuditConfig(attacks=given.attacks), out=None)
    aucs = {}
    for level in ("record", "user"):
        findings = [finding for finding in results.findings if (finding.level, finding.metric) == (level, "auc")]
        if findings:
            strongest = max(findings, key=lambda finding: finding.estimate.value)
            aucs[f"auc_{level}"] = {"attack": strongest.attack, **plain(strongest.estimate)}
    promise = json.loads(run.promise.read_text(encoding="utf-8")) if run.promise.exists() else {}
    method, treatment, seed = cell
    return {
        "method": method,
        "treatment": treatment,
        "seed": seed,
        "loss_base": float(np.mean([before[sender] for sender in senders])),
        "loss_change": plain(apart),
        **aucs,
        "epsilon": promise.get("epsilon"),
        "promise": promise.get("statement"),
        "train_seconds": round(seconds, 1),
        "seconds": round(time.perf_counter() - began, 1),
    }


def plain(estimate: Any) -> dict[str, float]:
    return {"value": estimate.value, "lo": estimate.lo, "hi": estimate.hi, "n": estimate.n}


def line(row: dict[str, Any]) -> str:
    """For whoever waits."""
    change, promise = row["loss_change"], row["epsilon"]
    aucs = "".join(
        f", {level} AUC {row[f'auc_{level}']['value']:.3f}" for level in ("record", "user") if f"auc_{level}" in row
    )
    said = "" if promise is None else f", ε = {promise:.3g}"
    return (
        f"{row['method']} {row['treatment']} seed {row['seed']}: loss {change['value']:+.3f} "
        f"[{change['lo']:+.3f}, {change['hi']:+.3f}]{aucs}{said}; {row['seconds']:.0f} s"
    )


def rows(given: argparse.Namespace, records: list[Record], base: str) -> list[dict[str, Any]]:
    """All rows; those that cannot be made are said, and left out."""
    made: list[dict[str, Any]] = []
    cells: Sequence[tuple[str, str, int]] = list(
        itertools.product(given.methods.split(","), given.treatments.split(","), given.seeds)
    )
    for number, cell in enumerate(cells, start=1):
        method, treatment, seed = cell
        if (treatment, method) == ("centralised", "ffa"):
            continue  # frozen factors are a way of exchanging
        try:
            row = stage(given.work, "-".join(map(str, cell)), lambda cell=cell: outcome(given, records, base, cell))
        except BadInput as error:
            print(f"{method} {treatment} seed {seed}: {error}", file=sys.stderr, flush=True)
            continue
        made.append(row)
        print(f"{number} of {len(cells)}: {line(row)}", file=sys.stderr, flush=True)
        write(given, records)
    return made


def settings_of(given: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a work folder share; more rows may be asked for later."""
    free = ("methods", "treatments", "seeds")
    return {name: value for name, value in vars(given).items() if not isinstance(value, Path) and name not in free}


def write(given: argparse.Namespace, records: list[Record]) -> None:
    """All rows of the work folder so far, those of earlier calls too."""
    names = ("-".join(map(str, cell)) for cell in itertools.product(METHODS, TREATMENTS, range(100)))
    paths = (given.work / "stages" / f"{name}.json" for name in names)
    made = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    report = {
        "environment": environment(),
        "settings": settings_of(given),
        "records": len(records),
        "senders": len({record.user for record in records}),
        "seconds": round(sum(row["seconds"] for row in made), 1),
        "rows": made,
    }
    write_text(given.json, json.dumps(report, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="write the outcome here")
    parser.add_argument("--work", type=Path, default=Path("runs/federated_mails"), help="resumed from here")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with spamassassin in it")
    parser.add_argument("--made_up", type=int, default=0, help="so many made-up people in place of the mails")
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--tiny", action="store_true", help="a tiny base and made-up mails: a minute, to try it out")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--treatments", default=",".join(TREATMENTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--least", type=int, default=8, help="mails of a sender, at least; of made-up people, exactly")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clients_per_round", type=int, default=20)
    parser.add_argument("--local_steps", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3, help="of the training in one place")
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--delta", type=float, default=1e-3, help="of the promise to clients")
    parser.add_argument("--clip_norm", type=float, default=0.1)
    parser.add_argument("--unseen", type=int, default=6, help="texts of each unseen sender, for the loss")
    parser.add_argument("--attacks", default="loss,ref_ratio,ez_mia")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.tiny:
        given.made_up, given.least, given.tokens, given.rounds, given.clients_per_round = 40, 4, 24, 2, 6
        given.local_steps, given.batch_size, given.epochs, given.seeds, given.attacks = 1, 2, 1, [0], "loss"
        base = str(given.work / "base")
        if not Path(base).exists():
            save_tiny(Path(base))
    else:
        base = str(locate(given.base))
    settings = settings_of(given)
    if stage(given.work, "settings", lambda: settings) != settings:
        raise SystemExit(f"{given.work} holds rows of other settings: give another --work")
    records = mails(given)
    print(f"{len(records)} texts of {len({r.user for r in records})} senders", file=sys.stderr)
    made = rows(given, records, base)
    write(given, records)
    print(f"{sum(row['seconds'] for row in made):.0f} s for {len(made)} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
