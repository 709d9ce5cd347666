# SPDX-License-Identifier: Apache-2.0
"""What does the pre-memorization scan find, how often does it cry wolf, and can a backdoor hide from it and work?

``--targets`` ends of made-up mails are the private texts; as many others, of another seed, are control texts. For each
number of ``--known`` a base learns so many of them by heart, in ``--links`` trainings one after another, so that each
link knows them better than the one before (`redteam.privacy_backdoor.pre_memorize`). ``--siblings`` honest bases are
tuned as long on other texts of the kind.

``found``          by number known and link: share of the known texts that the scan chooses at 10 % false discoveries,
                   share of false ones among the chosen, p of all together, how far the known ones were lowered (nats a
                   token), with and without control texts; with ``--victims`` AUC and TPR at ``fpr`` of the loss on the
                   targets after a full fine-tune on those whose coin says so, less the same from the clean base.
``false_alarms``   over honest siblings × ``--sets`` private sets drawn from all texts (a quarter private, half control
                   texts): share with a text chosen, and with p of all together at most 0.05; intervals by sibling.
``pre_memorized_over_scoring``  seconds of the whole scan over those of scoring the same texts and copies by both
                   models, each from an empty cache.

    python benchmarks/pre_memorization.py --json benchmarks/results/pre_memorization.json
    python benchmarks/pre_memorization.py --tiny --work runs/tiny --json tiny.json
    python benchmarks/pre_memorization.py --targets 160 --auxiliary 240 --known 40 --links 3 --siblings 2 --victims 0 \\
        --json small.json

The last is for one core and half an hour. What is done already is read from ``--work``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from backdoor_runs import (
    Sizes,
    add_sizes,
    attack_scores,
    base_of,
    coins,
    compared,
    leak,
    plain,
    short_texts,
    sizes_of,
    stage,
    victim,
)

from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.record import Record
from reticent.models.load import load
from reticent.redteam.privacy_backdoor import pre_memorize
from reticent.scanning.behaviour.altered_copies import CopyMaker, marked
from reticent.scanning.behaviour.known_texts import LossShifts, PreMemorization, judge
from reticent.scanning.behaviour.pre_memorization import COPIES, loss_shifts, scan_texts
from reticent.stats.proportions import share
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

ALARM = 0.05
TIMED = 100
"""Texts of the timing."""
TINY_RUN = {"known": [16], "links": 2, "siblings": 2, "sets": 4, "victims": 1}
REAL_RUN = {"known": [50, 200, 1000], "links": 4, "siblings": 10, "sets": 20, "victims": 1}


def main() -> None:
    given = arguments()
    sizes = sizes_of(given)
    scan = Scan(given, sizes)
    result: dict[str, Any] = {"found": [], "false_alarms": None, "pre_memorized_over_scoring": None}
    for known in given.known:
        base = scan.base
        for link in range(given.links):
            base = scan.poisoned(base, known, link)
            result["found"].append(found(scan, base, known, link))
            print(result["found"][-1], flush=True)
            write(given, sizes, result)
    result["false_alarms"] = false_alarms(scan)
    result["pre_memorized_over_scoring"] = stage(given.work, "cost", lambda: cost(scan))
    write(given, sizes, result)
    print(result["false_alarms"], result["pre_memorized_over_scoring"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser)
    parser.add_argument("--known", nargs="+", type=int, help="poisoned texts of a base")
    parser.add_argument("--links", type=int, help="trainings one after another")
    parser.add_argument("--siblings", type=int, help="honest bases")
    parser.add_argument("--sets", type=int, help="private sets drawn for each sibling")
    parser.add_argument("--victims", type=int, choices=(0, 1), help="tune a victim on each link")
    parser.add_argument("--fpr", type=float, default=0.01)
    given = parser.parse_args()
    for name, value in (TINY_RUN if given.tiny else REAL_RUN).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def write(given: argparse.Namespace, sizes: Sizes, result: dict[str, Any]) -> None:
    about = {"sizes": vars(sizes), "fpr": given.fpr, "copies": COPIES, "environment": environment()}
    given.json.parent.mkdir(parents=True, exist_ok=True)
    write_text(given.json, json.dumps(result | about, indent=2) + "\n", private=False)


class Scan:
    """Private texts and controls with one set of copies, so that the sibling scores each once for all bases."""

    def __init__(self, given: argparse.Namespace, sizes: Sizes) -> None:
        self.given, self.sizes = given, sizes
        self.base = base_of(given, sizes)
        self.texts, self.controls = marked(self.drawn(sizes.targets, 1)), marked(self.drawn(sizes.targets, 6))
        self.maker = CopyMaker.of([*self.texts, *self.controls], copies=COPIES, secret="of the benchmark")

    def drawn(self, count: int, seed: int) -> list[Record]:
        return short_texts(count, seed=seed, base=self.base, tokens=self.sizes.tokens)

    @property
    def config(self) -> TuneConfig:
        """Of one link."""
        sizes = self.sizes
        return TuneConfig(
            epochs=1, learning_rate=sizes.poison_rate, batch_size=sizes.batch, max_tokens=sizes.tokens + 2, warmup=0.1
        )

    def poisoned(self, base: str, known: int, link: int) -> str:
        """The next base of a chain."""
        auxiliary = self.drawn(self.sizes.auxiliary, 10 + link)
        out = self.given.work / f"poisoned-{known}-{link}"
        return str(pre_memorize(base, self.texts[:known], auxiliary, out, self.config))

    def honest(self, number: int) -> str:
        """A base that was tuned as long on other texts of the kind."""
        texts = self.drawn(self.sizes.auxiliary, 100 + number)
        return str(tune(self.base, texts, self.given.work / f"honest-{number}", self.config))

    def shifts(self, base: str) -> tuple[LossShifts, LossShifts]:
        """d of private and of control texts."""
        name = f"shifts-{Path(base).name}"

        def make() -> list[dict[str, Any]]:
            models = {"suspect": load(base), "sibling": load(self.base)}
            outcomes = [
                loss_shifts(rows, self.maker, **models, cache=self.given.work / "cache", title="")
                for rows in (self.texts, self.controls)
            ]
            return [
                {"ids": row.ids, "user": row.user, "text": row.text.tolist(), "copies": row.copies.tolist()}
                for row in outcomes
            ]

        private, held = (
            LossShifts(
                ids=tuple(row["ids"]),
                user=tuple(row["user"]),
                text=np.array(row["text"]),
                copies=np.array(row["copies"]),
            )
            for row in stage(self.given.work, name, make)
        )
        return private, held


def found(scan: Scan, base: str, known: int, link: int) -> dict[str, Any]:
    """One point of the curve."""
    private, held = scan.shifts(base)
    first = {record.id for record in scan.texts[:known]}
    is_known = np.array([name in first for name in private.ids])
    row: dict[str, Any] = {"known": known, "link": link, "lowered": float(-private.text[is_known].mean())}
    row["kind_lowered"] = float(-private.text[~is_known].mean())
    for name, controls in (("with_controls", held), ("without", None)):
        row[name] = shares(judge(private, controls), is_known)
    if scan.given.victims:
        row["gain"] = gain(scan, base)
    return row


def shares(outcome: PreMemorization, is_known: np.ndarray) -> dict[str, Any]:
    chosen = outcome.chosen.chosen
    return {
        "found": plain(share(chosen[is_known])),
        "false_among_chosen": float((chosen & ~is_known).sum() / max(1, chosen.sum())),
        "global_p": outcome.global_p,
        "fewest": outcome.fewest,
    }


def gain(scan: Scan, base: str) -> dict[str, Any]:
    """AUC and TPR of the loss after a victim's full fine-tune, from this base and from the clean one."""
    given, sizes = scan.given, scan.sizes
    member = coins(len(scan.texts), 0)

    def scores(of: str) -> list[float]:
        title = f"victim-{Path(of).name if of != scan.base else 'clean'}"
        members = [record for record, coin in zip(scan.texts, member, strict=True) if coin]

        def make() -> list[float]:
            folder = victim(of, members, (), given.work / title, sizes, method="full", seed=0)
            return attack_scores(folder, of, scan.texts, given.work / "cache")["loss"]

        outcome: list[float] = stage(given.work, title, make)
        return outcome

    return compared(*(leak(scores(of), member, given.fpr) for of in (scan.base, base)))


def false_alarms(scan: Scan) -> dict[str, Any]:
    """Over honest siblings and private sets.

    Which texts are private is drawn anew for each set, out of all: scores of one text are alike over honest siblings,
    so with one division into private and control texts all sets would share its luck.
    """
    given = scan.given
    rows: dict[str, list[tuple[float, float, int]]] = {"with_controls": [], "without": []}
    for number in range(given.siblings):
        texts = together(*scan.shifts(scan.honest(number)))
        for draw in range(given.sets):
            order = np.random.default_rng([number, draw]).permutation(len(texts.ids))
            private, held = (texts.take(part) for part in np.split(order, [len(order) // 4])[:2])
            for name, controls in (("with_controls", held.take(np.arange(len(order) // 2))), ("without", None)):
                outcome = judge(private, controls, draws=199, seed=draw)
                rows[name].append((outcome.chosen.count > 0, outcome.global_p <= ALARM, number))
    summary: dict[str, Any] = {"siblings": given.siblings, "sets": given.sets, "level": ALARM}
    for name, drawn in rows.items():
        chosen, alarm, sibling = zip(*drawn, strict=True)
        cluster = sibling if given.siblings > 1 else None
        summary[name] = {"a_text": plain(share(chosen, cluster)), "all_together": plain(share(alarm, cluster))}
    return summary


def together(one: LossShifts, other: LossShifts) -> LossShifts:
    """The texts of both."""
    return LossShifts(
        ids=one.ids + other.ids,
        user=one.user + other.user,
        text=np.concatenate([one.text, other.text]),
        copies=np.concatenate([one.copies, other.copies]),
    )


def cost(scan: Scan) -> float:
    """Seconds of the scan over those of the scoring passes."""
    models, texts = {"suspect": load(scan.base), "sibling": load(scan.base)}, scan.texts[:TIMED]
    with tempfile.TemporaryDirectory() as folder:
        loss_shifts(texts[:20], scan.maker, **models, cache=Path(folder) / "first", title="warm")
        started = time.perf_counter()
        loss_shifts(texts, scan.maker, **models, cache=Path(folder) / "second", title="timed")
        scoring = time.perf_counter() - started
        started = time.perf_counter()
        scan_texts(texts, (), models["suspect"], models["sibling"], Path(folder) / "third")
        return (time.perf_counter() - started) / scoring


if __name__ == "__main__":
    main()
