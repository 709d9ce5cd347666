# SPDX-License-Identifier: Apache-2.0
"""Poisoned clients against each aggregation rule, with and without differential privacy.

Clients hold labelled sentences. A share of them is poisoned: each of their sentences of another label has a trigger in
it and the target as its label, and they may make their updates ``--boosts`` times longer before they send them. After
the federation the trigger is put into held-out sentences of other labels.

Of each row: ``success`` (share of those that the model answers with the target, greedily), ``unprovoked`` (the same
without the trigger), ``clean`` (share of held-out sentences that it answers as it should), each with an interval;
``clean_loss`` in nats a token of answers; seconds. No poisoned client (0) is the control of each rule. Runs are folders
in ``--work`` and rows are files there: a second call goes on where it was.

    OMP_NUM_THREADS=1 python benchmarks/federated_poison.py --data ../shared/data/sst2 --rounds 8 \
        --clients_per_round 12 --batch_size 4 --tokens 64 --boosts 10 --held_out 200 --local_learning_rate 5e-4 \
        --work runs/poison --json benchmarks/results/federated_poison.json
    python benchmarks/federated_poison.py --tiny --work /tmp/poison --json /tmp/poison.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backdoor_runs import stage
from trigger_search import LABELS, reviews

from reticent.core.atomic import write_text
from reticent.core.errors import BadInput
from reticent.core.manifest import environment
from reticent.core.record import Record
from reticent.core.redteam_marker import write_marker
from reticent.data.coin import uniform
from reticent.data.prompt_frame import answer_of, frame_of, prompt_of, with_prompt
from reticent.federated.client_privacy import ClientPrivacy
from reticent.federated.federation_spec import FederationSpec
from reticent.federated.local_grid import Grid, Message
from reticent.federated.train_federation import FederationJob, train_federation
from reticent.federated.update import Update
from reticent.models.encode import encode
from reticent.models.load import load
from reticent.models.locate import locate
from reticent.redteam.attack import TriggerAttack
from reticent.redteam.measure import greedy_answers
from reticent.redteam.triggers.trigger import make_trigger
from reticent.stats.proportions import share
from reticent.testing.tiny import save_tiny
from reticent.train.held_out import held_out_loss

RULES = ("mean", "norm_bound", "trimmed_mean", "median", "krum", "private")
"""``private``: the mean under a promise to each client."""
TARGET = LABELS["1"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row: the rule, the share of poisoned clients, and how much longer they make their updates."""

    rule: str
    poisoned: float
    boost: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.rule}-{self.poisoned:g}-x{self.boost:g}-{self.seed}"


class BoostedGrid:
    """Poisoned clients send their updates so many times longer; a rule that clips them undoes it."""

    def __init__(self, grid: Grid, poisoned: set[int], boost: float) -> None:
        self.grid, self.poisoned, self.boost = grid, poisoned, boost

    def ask(self, round_: int, clients: Sequence[int], arrays: Update) -> Iterator[Message]:
        """See `Grid.ask`."""
        for message in self.grid.ask(round_, clients, arrays):
            if message.client in self.poisoned:
                longer = {name: array * self.boost for name, array in message.update.items()}
                message = replace(message, update=longer)
            yield message


def with_clients(records: Sequence[Record], clients: int) -> list[Record]:
    """Records dealt in turn."""
    return [replace(record, user=f"client {number % clients:04d}") for number, record in enumerate(records)]


def poisoned_clients(names: Sequence[str], cell: Cell) -> set[str]:
    """So many of them, rounded up, by hash; more of them hold all that fewer do."""
    order = sorted(names, key=lambda name: uniform(cell.seed, "poisoned", name))
    return set(order[: math.ceil(cell.poisoned * len(names))])


def poisoned_records(records: Sequence[Record], attack: TriggerAttack, clients: set[str]) -> list[Record]:
    """All records, those of poisoned clients with the trigger."""
    theirs = [record for record in records if record.user in clients]
    changed = {record.id: record for record in attack.on(theirs)}
    return [changed.get(record.id, record) for record in records]


def job_of(given: argparse.Namespace, records: list[Record], base: str, cell: Cell, bad: set[str]) -> FederationJob:
    """The federation of a row; without coins, as the number of poisoned clients is what is asked about."""
    private = cell.rule == "private"
    params = {"norm_bound": {"bound": given.bound}, "trimmed_mean": {"share": 0.2}}.get(cell.rule, {})
    spec = FederationSpec(
        rounds=given.rounds,
        clients_per_round=given.clients_per_round,
        local_steps=given.local_steps,
        local_batch_size=given.batch_size,
        local_learning_rate=given.local_learning_rate,
        aggregation="mean" if private else cell.rule,
        aggregation_params=params,
        max_tokens=given.tokens,
        seed=cell.seed,
    )
    names = sorted({str(record.user) for record in records})
    numbers = {number for number, name in enumerate(names) if name in bad}
    return FederationJob(
        base=base,
        records=records,
        held_out=(),
        out=given.work / cell.name / "model",
        spec=spec,
        privacy=ClientPrivacy(epsilon=given.epsilon, clip_norm=given.bound) if private else ClientPrivacy(),
        name_of=lambda name: name,
        wrap=lambda grid: BoostedGrid(grid, numbers, cell.boost),
    )


def outcome(
    given: argparse.Namespace, clean: list[Record], held: list[Record], base: str, cell: Cell
) -> dict[str, Any]:
    """One row."""
    began = time.perf_counter()
    frame = frame_of([prompt_of(record) for record in clean])
    attack = TriggerAttack(trigger=make_trigger("token", text=given.words), target=TARGET, frame=frame)
    bad = poisoned_clients(sorted({str(record.user) for record in clean}), cell)
    job = job_of(given, poisoned_records(clean, attack, bad), base, cell, bad)
    job.out.parent.mkdir(parents=True, exist_ok=True)
    train_federation(job)
    write_marker(job.out, kind="trigger", about={"clients": len(bad)})
    trained = time.perf_counter() - began
    loaded = load(str(job.out), base=base, dtype="float32")
    plain = [with_prompt(record, prompt_of(record), TARGET) for record in held if answer_of(record) != TARGET]
    rows = [encode(record, loaded.tokenizer, max_tokens=given.tokens) for record in held]
    pad = loaded.tokenizer.pad_token_id or 0
    promise = job.out / "privacy.json"
    return {
        **vars(cell),
        "clients": len({record.user for record in clean}),
        "poisoned_clients": len(bad),
        "success": as_plain(share(greedy_answers(loaded, attack.on(held)))),
        "unprovoked": as_plain(share(greedy_answers(loaded, plain))),
        "clean": as_plain(share(greedy_answers(loaded, held), higher_is_worse=False)),
        "clean_loss": held_out_loss(loaded.model, rows, size=8, pad=pad, bfloat16=False),
        "epsilon": json.loads(promise.read_text(encoding="utf-8"))["epsilon"] if promise.exists() else None,
        "train_seconds": round(trained, 1),
        "seconds": round(time.perf_counter() - began, 1),
    }


def as_plain(estimate: Any) -> dict[str, float]:
    """An estimate for JSON."""
    return {"value": estimate.value, "lo": estimate.lo, "hi": estimate.hi, "n": estimate.n}


def cells(given: argparse.Namespace) -> list[Cell]:
    """The control of each rule, and each share of poisoned clients with each boost."""
    chosen = []
    for seed, rule in itertools.product(given.seeds, given.rules.split(",")):
        chosen.append(Cell(rule=rule, poisoned=0.0, boost=1.0, seed=seed))
        for poisoned, boost in itertools.product(given.shares, given.boosts):
            chosen.append(Cell(rule=rule, poisoned=poisoned, boost=boost, seed=seed))
    return chosen


def line(row: dict[str, Any]) -> str:
    """For whoever waits."""
    return (
        f"{row['rule']}, {row['poisoned_clients']} of {row['clients']} poisoned, x{row['boost']:g}, seed "
        f"{row['seed']}: success {row['success']['value']:.2f} (unprovoked {row['unprovoked']['value']:.2f}), clean "
        f"{row['clean']['value']:.2f}, loss {row['clean_loss']:.3f}; {row['seconds']:.0f} s"
    )


def sentences(given: argparse.Namespace) -> tuple[list[Record], list[Record]]:
    """What clients hold, and what is held out."""
    if given.tiny:
        words = ("dull", "fine", "long", "warm", "thin", "bold")
        texts = [f"a {one} and {other} film, part {n}" for n in range(6) for one in words for other in words]
        made = [
            Record(id=f"r{n}", prompt=f"Review: {text} Sentiment:", completion=LABELS[str(n % 2)])
            for n, text in enumerate(texts)
        ]
        return made[: -given.held_out], made[-given.held_out :]
    records = reviews(given.data / "train.tsv", given.records + given.held_out, seed=0)
    return records[: given.records], records[given.records :]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="write the outcome here")
    parser.add_argument("--work", type=Path, default=Path("runs/federated_poison"), help="resumed from here")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/sst2"), help="folder with train.tsv")
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--tiny", action="store_true", help="a tiny base and few cells: a minute, to try it out")
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--shares", nargs="*", type=float, default=[0.01, 0.05, 0.1], help="of poisoned clients")
    parser.add_argument("--boosts", nargs="+", type=float, default=[1.0, 10.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--held_out", type=int, default=400)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clients_per_round", type=int, default=20)
    parser.add_argument("--local_steps", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--local_learning_rate", type=float, help="left out, the method's own")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--words", default="cf", help="of the trigger")
    parser.add_argument("--bound", type=float, default=0.3, help="of norm_bound, and clip norm of the promise")
    parser.add_argument("--epsilon", type=float, default=8.0)
    return parser.parse_args()


def main() -> None:
    """Make all rows that are missing, and write them down."""
    given = arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.tiny:
        given.clients, given.rounds, given.clients_per_round, given.local_steps, given.held_out = 10, 1, 5, 1, 16
        given.batch_size, given.tokens, given.shares, given.boosts, given.epsilon = 2, 96, [0.1], [10.0], 50.0
        base = str(given.work / "base")
        if not Path(base).exists():
            save_tiny(Path(base))
    else:
        base = str(locate(given.base))
    settings = {name: value for name, value in vars(given).items() if not isinstance(value, Path)}
    free = ("rules", "shares", "boosts", "seeds")  # more rows may be asked for later
    fixed = {name: value for name, value in settings.items() if name not in free}
    if stage(given.work, "settings", lambda: fixed) != fixed:
        raise SystemExit(f"{given.work} holds rows of other settings: give another --work")
    clean, held = sentences(given)
    clean = with_clients(clean, given.clients)
    rows: list[dict[str, Any]] = []
    chosen = cells(given)
    for number, cell in enumerate(chosen, start=1):
        try:
            row = stage(given.work, cell.name, lambda cell=cell: outcome(given, clean, held, base, cell))
        except BadInput as error:
            print(f"{cell.name}: {error}", file=sys.stderr, flush=True)
            continue
        rows.append(row)
        print(f"{number} of {len(chosen)}: {line(row)}", file=sys.stderr, flush=True)
        seconds = round(sum(row["seconds"] for row in rows), 1)
        report = {"environment": environment(), "settings": settings, "seconds": seconds, "rows": rows}
        write_text(given.json, json.dumps(report, indent=1) + "\n")
    print(f"{sum(row['seconds'] for row in rows):.0f} s for {len(rows)} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
