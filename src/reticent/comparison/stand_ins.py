# SPDX-License-Identifier: Apache-2.0
"""Trainings in which something stands in for the private text, or for the model that saw it.

=============  ========================================================================================================
``scrubbed``   the records without the personal data that detectors find
``synthetic``  texts that a mechanism made out of the members; one set for all learning rates and seeds, so that a
               promise is spent once
``emulated``   a small model is tuned on the members, and steers the base, which sees nothing; one small model for all β
=============  ========================================================================================================

All throw the same coins as an ordinary training, plant the same secrets, and are looked at on the same panel of real
records: what is compared is the model that ships.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reticent.comparison.defences import EMULATED, SCRUBBED, SYNTHETIC, Defence
from reticent.core.errors import BadInput
from reticent.core.lease import Leases
from reticent.core.record import Record, write_records
from reticent.core.run_folder import RunFolder
from reticent.core.stated_epsilon import StatedEpsilon
from reticent.data.canaries import write_canaries
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.pii.detect import choose, detect_all
from reticent.data.pii.scrub import Scrubber
from reticent.data.split_config import SplitConfig
from reticent.data.words import units as words_of
from reticent.models.emulation import EmulationConfig, read_emulation
from reticent.monitor.attach import watching
from reticent.monitor.config import MonitorConfig
from reticent.report.synthesis_file import read_synthesis
from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.train.config import TuneConfig
from reticent.workflows.emulate import emulate
from reticent.workflows.recipe import TuneRecipe
from reticent.workflows.sampled_canaries import openings_of
from reticent.workflows.synthesis_recipe import SynthesisRecipe
from reticent.workflows.synthesize import synthesize
from reticent.workflows.training_rows import TrainingRows, training_rows
from reticent.workflows.tune import tune

FOLDER = "stand_ins"
"""Beside the trainings of a comparison: synthetic texts and small models that several of them share."""
MOST_TEXTS = 2000
FIRST_WORDS = "A text that a person wrote:"


@dataclass(frozen=True, kw_only=True)
class StandInOrder:
    """One training with a stand-in.

    Args:
        name: of the training.
        defence: with its stand-in.
        base: the model that ships, before training.
        small_base: that is tuned where the base is steered; empty where none is.
        split, canaries, training, monitor: of this training.
    """

    name: str
    defence: Defence
    base: str
    small_base: str
    split: SplitConfig
    canaries: CanaryConfig
    training: TuneConfig
    monitor: MonitorConfig

    @property
    def kind(self) -> str:
        """Of the stand-in."""
        return str(self.defence.stand_in["kind"])


def train_stand_in(folder: Path, order: StandInOrder, records: Sequence[Record]) -> RunFolder:
    """Leave a folder as an ordinary training does: coins, records, secrets, looks at the panel, and a model.

    Args:
        folder: of the training, in ``cells`` of the comparison.
        order: what is asked for.
        records: of the comparison.

    Raises:
        BadInput: it cannot be trained so, such as too few units for a promise.
    """
    if order.canaries.canaries and openings_of(order.canaries.canary_kind) is not None:
        raise BadInput(
            f"canary_kind={order.canaries.canary_kind!r} with stand-ins",
            "lets each model write its own secrets, and a comparison needs the same ones everywhere",
            "Choose another kind, such as surprising_end.",
        )
    run = RunFolder(root=folder)
    rows = training_rows(
        records,
        base=order.base,
        split_config=order.split,
        canary_config=order.canaries,
        privacy=order.defence.promise,
        max_tokens=order.training.max_tokens,
    )
    run.make()
    write_records(run.records, rows.records)
    rows.membership.write(run.membership)
    if rows.planting is not None:
        write_canaries(run.canaries, rows.planting.canaries)
    if order.kind == EMULATED:
        return _emulated(run, order, records)
    texts = scrubbed(rows.trained) if order.kind == SCRUBBED else _synthetic(run, order, records, rows)
    return _tuned(run, order, rows, texts)


def scrubbed(records: Sequence[Record]) -> list[Record]:
    """The records with what detectors find replaced by its kind in brackets.

    >>> [record.text for record in scrubbed([Record(id="a", text="Write to ann@example.com")])]
    ['Write to [EMAIL]']
    """
    scrubber = Scrubber(style="placeholder")
    return [replace(scrubber.scrub(record), spans=()) for record in detect_all(records, choose())]


def _tuned(run: RunFolder, order: StandInOrder, rows: TrainingRows, texts: Sequence[Record]) -> RunFolder:
    """Tune the base on the texts, with looks at real records. They come after what is promised, and nothing is chosen
    by them."""
    from reticent.train.trainer import tune as train

    callbacks = watching(
        order.monitor,
        order.base,
        rows.records,
        rows.membership,
        rows.planting.canaries if rows.planting is not None else (),
        trained=texts,
        training=order.training,
        out=run.root,
    )
    train(order.base, texts, run.model, order.training, callbacks=callbacks)
    return run


def _synthetic(run: RunFolder, order: StandInOrder, records: Sequence[Record], rows: TrainingRows) -> list[Record]:
    """Synthetic texts; the first training that asks for them makes them."""
    place = _shared(run, order.defence.name)
    recipe = SynthesisRecipe(
        synthesis=spec_of(order.defence, rows.trained, max_tokens=order.training.max_tokens),
        split=order.split,
        canaries=order.canaries,
        training=TuneConfig(
            max_tokens=order.training.max_tokens, dtype=order.training.dtype, device=order.training.device
        ),
    )
    with Leases().turn(place.with_name(f".{place.name}.lease")):
        synthetic_run = synthesize(records, base=order.base, out=place, recipe=recipe, title=order.defence.name)
    texts = texts_in(synthetic_run.synthetic)
    if not texts:
        raise BadInput(order.defence.name, "made no text with a word in it", "Use more records, or another mechanism.")
    return texts


def texts_in(place: Path) -> list[Record]:
    """The synthetic texts of a file that have a word in them. A line of it ends at a line feed alone: a model may write
    other signs that part lines elsewhere."""
    rows = [json.loads(line) for line in place.read_text(encoding="utf-8").split("\n") if line]
    return [Record(id=row["id"], text=row["text"]) for row in rows if words_of(row["text"])]


def spec_of(defence: Defence, trained: Sequence[Record], *, max_tokens: int) -> SynthesisSpec:
    """As many texts as the promised units allow, whose number is known to all.

    Args:
        defence: with the mechanism and its promise.
        trained: records of the members.
        max_tokens: that records are cut to.
    """
    wanted, usual = defence.stand_in, SynthesisSpec(mechanism="none")
    by_user = wanted["unit"] == "user"
    units = len({record.user if by_user else record.id for record in trained})
    count = min(units * (usual.records_per_user if by_user else 1), MOST_TEXTS)
    if wanted["mechanism"] == "private_prediction":
        count = max(units // usual.references, 1)
    return SynthesisSpec(
        mechanism=wanted["mechanism"],
        epsilon=wanted["epsilon"],
        unit=wanted["unit"],
        count=count,
        instruction=FIRST_WORDS,
        max_new_tokens=min(usual.max_new_tokens, max_tokens),
        reference_tokens=max_tokens,
        long_texts="cut",
        hold_out=True,
    )


def _emulated(run: RunFolder, order: StandInOrder, records: Sequence[Record]) -> RunFolder:
    """Tune the small model, where no other β has, and steer the base by it."""
    from reticent.comparison.evaluate_after import evaluate_after

    training = order.training
    place = _shared(run, f"small_{order.name.replace(order.defence.name, 'tuned')}")
    with Leases().turn(place.with_name(f".{place.name}.lease")):
        small = tune(
            records,
            base=order.small_base,
            out=place,
            title=place.name,
            recipe=TuneRecipe(split=order.split, canaries=order.canaries, training=training),
        )
    config = EmulationConfig(beta=order.defence.stand_in["beta"])
    emulate(order.base, small.root, out=run.model, small_base=order.small_base, config=config, device=training.device)
    log: dict[str, Any] = json.loads((small.model / "train_log.json").read_text(encoding="utf-8"))
    evaluate_after(
        run,
        base=order.base,
        monitor=order.monitor,
        training=training,
        steps=max((int(row.get("step", 0)) for row in log["history"]), default=1),
        epochs=float(log["config"]["epochs"]),
        seconds=float(log.get("seconds_since_start_or_resume", 0.0)),
    )
    return run


def trained_in(run: RunFolder) -> RunFolder:
    """The run folder of the weights that were trained: the small model's where the model is steered by one."""
    info = read_emulation(run.model)
    return run if info is None else RunFolder(root=Path(info.small_tuned.source).parent)


def promise_of_texts(run: RunFolder, defence: Defence) -> StatedEpsilon | None:
    """The promise of the synthetic texts that a training learned from; None where it learned from none.

    Args:
        run: of the training, in ``cells`` of the comparison.
        defence: of it.

    Raises:
        BadInput: the texts are there without what is promised of them.
    """
    if defence.stand_in.get("kind") != SYNTHETIC or not defence.is_private:
        return None
    texts = read_synthesis(RunFolder(root=_shared(run, defence.name)).synthesis)
    assert texts.epsilon is not None
    assert texts.delta is not None
    return StatedEpsilon(epsilon=texts.epsilon, delta=texts.delta, unit=texts.unit, relation=texts.relation)


def _shared(run: RunFolder, name: str) -> Path:
    place = run.root.parent.parent / FOLDER / name
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def drop_stand_ins(root: Path, *, keep: bool) -> None:
    """Delete the weights that trainings shared, once all of them are done; texts, promises and the ledger stay.

    Args:
        root: of the comparison.
        keep: leave them.
    """
    for place in [] if keep else [*(root / FOLDER).glob("*/model"), *(root / FOLDER).glob("*/training/model")]:
        shutil.rmtree(place, ignore_errors=True)
