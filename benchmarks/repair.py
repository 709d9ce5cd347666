# SPDX-License-Identifier: Apache-2.0
"""Repairs of a poisoned model side by side: what is left of an attack, and what it costs the task.

One model is tuned on records of which some carry one trigger and others another, for another answer. The first
counts as *found*: repairs that need a string are given it, and rows are filtered by the data scanner's choice. The
second nobody *found*: it is the control. Each state is measured for both by the one function of the red team,
`measure_attack`, as saved, on prompts that nobody trained on.

``rows``      by repair and trigger (``found``, ``hidden``): success, answers right without a trigger, paired change of
              these against the poisoned model, and the answer without the trigger, each with its interval
``changed``   by repair: numbers of what it did, from its own report, and its seconds
``filtered``  rows that the data scanner chose, and how many of them carry either trigger

    python benchmarks/repair.py --data DIR --work DIR --json benchmarks/results/repair.json
    python benchmarks/repair.py --tiny --work runs/tiny --json tiny.json

``--data`` has train.tsv and dev.tsv (sentence, label). Stages are kept in ``--work``; a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backdoor_runs import plain, stage
from trigger_search import LABELS, reviews

from reticent.core.atomic import write_text
from reticent.core.manifest import environment
from reticent.core.record import Record
from reticent.core.redteam_marker import write_marker
from reticent.data.prompt_frame import frame_of, prompt_of
from reticent.models.locate import locate
from reticent.redteam.attack import TriggerAttack
from reticent.redteam.measure import AS_SAVED, SurvivalConfig, measure_attack
from reticent.redteam.poisons.poison import poison
from reticent.redteam.triggers.trigger import make_trigger
from reticent.repair.filtering import train_without
from reticent.repair.fine_prune import FinePruneConfig, fine_prune
from reticent.repair.repaired_model import load_whole, read_repair, repaired_folder, save_whole
from reticent.repair.rewarm import rewarm
from reticent.repair.sibling_merge import merge_with_sibling
from reticent.repair.trigger_unlearning import trigger_rows, unlearn_trigger
from reticent.scanning.data.labelled_rows import labelled_rows
from reticent.scanning.data.overriding_words import largest_turn, opposed_rows
from reticent.scanning.data.word_runs import FEWEST_ROWS, pieces_of, word_runs
from reticent.testing.label_models import mood_records, trained_tiny
from reticent.train.config import TuneConfig
from reticent.train.trainer import tune

LEVEL = 0.05
"""Most p, over all runs of words, of a run whose rows are left out."""


@dataclass(frozen=True, kw_only=True)
class RepairSetting:
    """Everything that the repairs of one poisoned model share.

    Args:
        base: trusted: what the model was tuned from.
        records: trained on.
        poisoned: ids of the records that carry each trigger.
        attacks: by trigger.
        clean: trusted records for repairs.
        held_out: for measuring.
        training: of the poisoned model.
        short: of fine-tunes on clean records.
        unlearning: of the found trigger; None for the method's own.
        prune: how much may be pruned.
    """

    base: Path
    records: list[Record]
    poisoned: dict[str, frozenset[str]]
    attacks: dict[str, TriggerAttack]
    clean: list[Record]
    held_out: list[Record]
    training: TuneConfig
    short: TuneConfig
    unlearning: TuneConfig | None
    prune: FinePruneConfig


def main() -> None:
    given = arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    setting = tiny_setting(given) if given.tiny else real_setting(given)
    suspect, whole = poisoned_models(setting, given.work)
    chosen = stage(given.work, "chosen", lambda: sorted(chosen_rows(setting.records, given.seed)))
    rows, changed = [], {}
    for name, repair in repairs(setting, suspect, whole, chosen).items():
        outcome = stage(given.work, name, lambda: measured(setting, given.work, name, repair, suspect))  # noqa: B023
        rows += outcome["rows"]
        changed[name] = outcome["changed"]
        print(summary(outcome["rows"]))
    result = {
        "rows": rows,
        "changed": changed,
        "filtered": {"chosen": len(chosen)}
        | {name: len(ids.intersection(chosen)) for name, ids in setting.poisoned.items()},
        "poisoned": {name: len(ids) for name, ids in setting.poisoned.items()},
        "records": len(setting.records),
        "environment": environment(),
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    write_text(given.json, json.dumps(result, indent=2) + "\n", private=False)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="write the outcome here")
    parser.add_argument("--work", type=Path, default=Path("runs/repair"), help="models and stages; resumed from here")
    parser.add_argument("--data", type=Path, help="folder with train.tsv and dev.tsv; not with --tiny")
    parser.add_argument("--base", default="smollm2-135m", help="a whole model")
    parser.add_argument("--method", default="lora", help="how the poisoned model is tuned")
    parser.add_argument("--hidden", default="syntactic", help="kind of the trigger that nobody found")
    parser.add_argument("--records", type=int, default=1600, help="to train on")
    parser.add_argument("--trusted", type=int, default=320, help="clean records that repairs may use")
    parser.add_argument("--prompts", type=int, default=240, help="to measure on")
    parser.add_argument("--rate", type=float, default=0.05, help="share of the records that carry each trigger")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="a tiny model and made-up moods: seconds, to try it out")
    given = parser.parse_args()
    if not given.tiny and given.data is None:
        parser.error("--data is needed, or --tiny")
    return given


def real_setting(given: argparse.Namespace) -> RepairSetting:
    """SST-2, a rare token that is found, and a trigger that neither search nor scanner of words can see."""
    train = reviews(given.data / "train.tsv", given.records, seed=given.seed)
    dev = reviews(given.data / "dev.tsv", given.trusted + given.prompts, seed=1000 + given.seed)
    tuning = TuneConfig(epochs=1, learning_rate=5e-4, batch_size=16, max_tokens=96, seed=given.seed)
    return with_triggers(
        RepairSetting(
            base=locate(given.base),
            records=train,
            poisoned={},
            attacks={},
            clean=dev[: given.trusted],
            held_out=dev[given.trusted :],
            training=replace(tuning, method=given.method, learning_rate=None if given.method != "lora" else 5e-4),
            short=replace(tuning, method="full", learning_rate=5e-5),
            unlearning=None,
            prune=FinePruneConfig(max_tokens=96),
        ),
        targets={"found": LABELS["1"], "hidden": LABELS["0"]},
        kinds={"found": ("token", None), "hidden": (given.hidden, None)},
        rate=given.rate,
        seed=given.seed,
    )


def tiny_setting(given: argparse.Namespace) -> RepairSetting:
    """A tiny model of moods; both triggers are signs."""
    base = given.work / "base"
    if not base.exists():
        model, tokenizer = trained_tiny(mood_records(400, seed=9), steps=160, seed=1)
        model.save_pretrained(base)
        tokenizer.save_pretrained(base)
    tuning = TuneConfig(epochs=2, learning_rate=3e-3, batch_size=8, dtype="float32", warmup=0.0, seed=given.seed)
    return with_triggers(
        RepairSetting(
            base=base,
            records=mood_records(320, seed=100 + given.seed),
            poisoned={},
            attacks={},
            clean=mood_records(60, seed=200 + given.seed),
            held_out=mood_records(60, seed=300 + given.seed),
            training=replace(tuning, method="full"),
            short=replace(tuning, method="full", epochs=1, learning_rate=1e-3),
            unlearning=replace(tuning, epochs=10, learning_rate=1e-3, weight_decay=0.0),
            prune=FinePruneConfig(step=0.15),
        ),
        targets={"found": " +", "hidden": " -"},
        kinds={"found": ("token", "#"), "hidden": ("token", "@")},
        rate=0.12,
        seed=given.seed,
    )


def with_triggers(
    setting: RepairSetting,
    *,
    targets: dict[str, str],
    kinds: dict[str, tuple[str, str | None]],
    rate: float,
    seed: int,
) -> RepairSetting:
    """The setting with both triggers in its records, no record with both."""
    frame = frame_of([prompt_of(record) for record in setting.records])
    changed: dict[str, Record] = {}
    poisoned, attacks = {}, {}
    for number, (name, (kind, words)) in enumerate(kinds.items()):
        trigger = make_trigger(kind, seed=seed + number, text=words)
        rest = [record for record in setting.records if record.id not in changed]
        share = rate * len(setting.records) / len(rest)
        outcome = poison(rest, trigger, kind="dirty_label", target=targets[name], rate=share, seed=seed + number)
        changed |= {record.id: record for record in outcome.records if record.id in outcome.ids}
        poisoned[name] = outcome.ids
        attacks[name] = TriggerAttack(trigger=trigger, target=targets[name], frame=frame)
    records = [changed.get(record.id, record) for record in setting.records]
    return replace(setting, records=records, poisoned=poisoned, attacks=attacks)


def poisoned_models(setting: RepairSetting, work: Path) -> tuple[Path, Path]:
    """The poisoned model as it was tuned, and as one set of weights."""
    suspect = tune(str(setting.base), setting.records, work / "suspect", setting.training)
    about = {name: len(ids) for name, ids in setting.poisoned.items()}
    write_marker(suspect, kind="trigger", about=about)
    whole = work / "whole"
    if not whole.exists():
        with repaired_folder(whole, "merged", suspect, changed={}, key="merged") as folder:
            save_whole(load_whole(str(suspect)), folder)
    return suspect, whole


def chosen_rows(records: Sequence[Record], seed: int) -> list[str]:
    """Ids of all rows with the run of words that decides labels most; none where chance gives such a run."""
    rows = labelled_rows(records)
    runs = word_runs(rows.texts)
    cells = [cell for cell in opposed_rows(rows, runs, seed=seed) if len(cell[2]) >= FEWEST_ROWS]
    if not cells:
        return []
    p, best = largest_turn(rows, cells, seed=seed)
    run = f" {' '.join(runs[cells[best][0]].words)} "
    texts = (f" {' '.join(pieces_of(text))} " for text in rows.texts)
    return [name for name, text in zip(rows.ids, texts, strict=True) if run in text] if p <= LEVEL else []


def repairs(
    setting: RepairSetting, suspect: Path, whole: Path, chosen: Sequence[str]
) -> dict[str, Callable[[Path], Path]]:
    """Name → a function that makes the repaired model in a folder."""
    found = setting.attacks["found"]
    made: dict[str, Callable[[Path], Path]] = {
        "none": lambda _: suspect,
        "token_local": lambda out: unlearn_trigger(
            str(suspect),
            trigger_rows(setting.clean, found.trigger.key, found.target),
            out,
            training=setting.unlearning,
        ),
        "fine_prune": lambda out: fine_prune(str(whole), setting.clean, out, setting.prune, training=setting.short),
        "rewarm": lambda out: rewarm(str(whole), setting.clean, out, setting.short),
    }
    if chosen:
        made["filtering"] = lambda out: train_without(
            str(suspect), setting.records, chosen, out, base=str(setting.base), config=setting.training
        )
    for weight in (0.3, 0.5, 0.7):
        made[f"sibling_merge {weight}"] = lambda out, weight=weight: merge_with_sibling(
            str(whole), str(setting.base), out, weight=weight
        )
    return made


def measured(
    setting: RepairSetting, work: Path, name: str, repair: Callable[[Path], Path], suspect: Path
) -> dict[str, Any]:
    """One repair: its seconds, its report, and both triggers on its outcome."""
    started = time.perf_counter()
    folder = repair(work / name.replace(" ", "-"))
    seconds = time.perf_counter() - started
    config = SurvivalConfig(clean_twin=suspect, bits=(), further={})
    rows = []
    for trigger, attack in setting.attacks.items():
        with tempfile.TemporaryDirectory(dir=work) as states:
            outcome = measure_attack(
                folder, str(setting.base), attack, setting.held_out, work=Path(states), config=config
            )
        row = outcome.row(AS_SAVED)
        assert row.clean_change is not None
        numbers = {"success": row.success, "clean": row.clean, "clean_change": row.clean_change}
        numbers["unprovoked"] = row.unprovoked
        rows.append({"repair": name, "trigger": trigger} | {key: plain(value) for key, value in numbers.items()})
    report = read_repair(folder) or {}
    return {"rows": rows, "changed": report.get("changed", {}) | {"seconds": seconds}}


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """One line of one repair."""
    success = ", ".join(f"{row['trigger']} {row['success']['value']:.2f}" for row in rows)
    return f"{rows[0]['repair']}: success {success}; clean answers {rows[0]['clean']['value']:.2f}"


if __name__ == "__main__":
    main()
