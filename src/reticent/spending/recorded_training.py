# SPDX-License-Identifier: Apache-2.0
"""The trainings that run folders have on record: what each promised, on which data, and whether it can be counted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reticent.core.errors import BadInput
from reticent.core.manifest import read_manifest
from reticent.core.portable import found as found_at
from reticent.core.run_folder import RunFolder
from reticent.models.tuned import read_tuned
from reticent.privacy.guarantee import EVERYTHING, PrivacyGuarantee
from reticent.privacy.mechanism import Mechanism
from reticent.train.begun import StartedTraining, read_begun
from reticent.train.private.step_log import StepLog as Checkpoint

if TYPE_CHECKING:
    from reticent.privacy.accounting import EpsilonSpent

TUNE, COMPARE, FEDERATE, SYNTHESIZE = "tune.yaml", "compare.yaml", "federate.yaml", "synthesize.yaml"
RUNS = (TUNE, COMPARE, FEDERATE, SYNTHESIZE, "manifest.json", ".model.begun.jsonl")
"""A folder that holds one of these may hold a training."""

MOST_STEPS = 10_000_000
"""More cannot be told from a broken file, and would take the accountant minutes."""


@dataclass(frozen=True, kw_only=True)
class RecordedTraining:
    """One training.

    Args:
        name: of its folder, for tables.
        status: ``"finished"``; ``"unfinished"``: it has checkpoints to go on from; ``"ended early"``; ``"replaced"`` by
            another in the same folder; ``"without privacy"``; ``"unreadable"``.
        data: fingerprint of its data set; empty where nothing tells.
        records: folders where its records may lie, likeliest first.
        model: where its model is, or was.
        base: the model folder that it started from; None where that is no folder here.
        promise: for the steps that may have been seen; None where none is known.
        why_not: why it cannot be counted; empty where it can.
    """

    name: str
    status: str
    data: str = field(default="", repr=False)
    records: tuple[Path, ...] = field(default=(), repr=False)
    model: Path | None = field(default=None, repr=False)
    base: Path | None = field(default=None, repr=False)
    promise: PrivacyGuarantee | None = None
    why_not: str = ""

    @property
    def is_counted(self) -> bool:
        return self.promise is not None and not self.why_not

    @property
    def mechanism(self) -> Mechanism:
        """One step, of the unit that is promised to."""
        assert self.promise is not None, "only what has a promise is accounted for"
        return Mechanism(
            noise_multiplier=self.promise.noise_multiplier,
            rate=self.promise.rate,
            owned=self.promise.owned,
            black_box=self.promise.black_box,
        )


def trainings_in(folders: Sequence[str | Path]) -> list[RecordedTraining]:
    """The trainings of all runs in ``folders``; each may be a run itself, or hold runs. A comparison is all its cells.

    Raises:
        BadInput: one of them is missing or cannot be listed.
    """
    by_folder: dict[Path, list[RecordedTraining]] = {}
    for given in folders:
        folder = Path(given)
        try:
            places = [folder] if _is_run(folder) else sorted(place for place in folder.iterdir() if place.is_dir())
        except OSError as error:
            raise BadInput(
                str(folder), f"cannot be listed ({error.strerror})", "Give a folder that holds runs."
            ) from error
        for place in places:
            by_folder.setdefault(place.resolve(), list(_of_place(place)))
    return [training for trainings in by_folder.values() for training in trainings]


def _is_run(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in RUNS)


def _of_place(place: Path) -> Iterator[RecordedTraining]:
    """Those of one run, or of all cells of one comparison; nothing where it is no run."""
    try:
        names = {entry.name for entry in place.iterdir()}
        if COMPARE in names:
            data = str(_settings(place / COMPARE).get("data", ""))
            for cell in sorted(cell for cell in (place / "cells").glob("*") if cell.is_dir()):
                yield from _of_run(cell, f"{place.name}/{cell.name}", (cell, place), data)
        elif SYNTHESIZE in names:
            yield from _of_texts(place)
        elif not names.isdisjoint(RUNS):
            yield from _of_run(place, place.name, (place,), "")
    except (BadInput, OSError) as error:
        yield RecordedTraining(name=place.name, status="unreadable", why_not=_why(error))


def _of_texts(place: Path) -> Iterator[RecordedTraining]:
    """Synthetic texts, whose cost is that of no training and cannot be added, and the training that made them."""
    settings = _settings(place / SYNTHESIZE)
    given = settings.get("synthesis")
    spec: dict[str, Any] = given if isinstance(given, dict) else {}
    training = place / "training"
    if training.is_dir():
        yield from _of_run(training, f"{place.name}/training", (training,), str(settings.get("data", "")))
    of_training_alone = spec.get("mechanism") == "none" or (
        spec.get("mechanism") == "dp_tune" and spec.get("condition") == "none"
    )
    if not of_training_alone:
        relation = str(spec.get("relation")).replace("_", " ")
        promised = f"ε = {spec.get('epsilon')} per {spec.get('unit')} {_delta_of(place, spec)} ({relation}) for all "
        promised += "texts together"
        yield RecordedTraining(
            name=place.name,
            status="finished",
            data=str(settings.get("data", "")),
            records=(training,) if training.is_dir() else (),
            why_not=f"it made synthetic text, which promises {promised}, and no training is like it: add that",
        )


def _delta_of(place: Path, spec: Mapping[str, Any]) -> str:
    """The δ of synthetic texts in words: as it was settled, or as it was asked for where they are not finished."""
    try:
        settled = json.loads((place / "synthesis.json").read_text(encoding="utf-8"))["delta"]
    except (OSError, ValueError, KeyError, TypeError):
        settled = None
    delta = spec.get("delta") if settled is None else settled
    return f"at δ = {delta:g}" if isinstance(delta, float) else "at the usual δ for so many"


def _of_run(root: Path, name: str, records: tuple[Path, ...], data: str) -> Iterator[RecordedTraining]:
    """The training that lies in ``root``, and those that began there.

    Args:
        records: where its records may lie.
        data: fingerprint of its data where its own settings do not tell.
    """
    run = RunFolder(root=root)
    training = RecordedTraining(name=name, status="finished", data=data, records=records, model=run.model.resolve())
    settings: dict[str, Any] = {}
    try:
        made_by = {TUNE, FEDERATE} & {entry.name for entry in root.iterdir()}
        if made_by:
            settings = _settings(root / made_by.pop())
            training = replace(training, data=str(settings.get("data", data)), base=_base(run, settings))
        manifest = _manifest(run)
        promise = _promise(run, manifest)
        begun = read_begun(run.model)
    except (BadInput, OSError) as error:
        yield replace(training, status="unreadable", why_not=_why(error))
        return
    if promise is not None:
        yield checked(replace(training, promise=promise))
    elif "privacy" in settings or "privacy" in manifest:
        yield from _lost(training, run, begun, has_manifest=bool(manifest))
    elif manifest or run.model.exists() or run.checkpoints.exists():
        yield replace(training, status="without privacy")
    for start in begun:
        yield _of_begun(training, run, start, is_last=start is begun[-1])


def _lost(
    training: RecordedTraining, run: RunFolder, begun: Sequence[StartedTraining], *, has_manifest: bool
) -> Iterator[RecordedTraining]:
    """A private training that left no promise; nothing where it never took a step."""
    if has_manifest or run.model.exists():
        yield replace(training, why_not="its promise is missing")
    elif not begun and run.checkpoints.exists():
        yield replace(training, status="unfinished", why_not="what its steps promise is not on record")


def _of_begun(training: RecordedTraining, run: RunFolder, start: StartedTraining, *, is_last: bool) -> RecordedTraining:
    """A training that gave no model, or none that is still here, with the steps that may have been seen."""
    begun = replace(training, promise=start.promise, status="ended early" if start.plan else "replaced")
    if start.data and start.data != training.data:
        begun = replace(begun, data=start.data, records=())
    if start.broken:
        return replace(begun, why_not="its self-check failed, so no promise covers what it showed")
    begun = checked(begun)
    done = [ledger.steps for ledger in _checkpoints(run) if ledger.plan == start.plan]
    if start.steps is None and (done or (is_last and run.checkpoints.exists())):
        begun = replace(begun, status="unfinished")
        # Losses are looked at each expected epoch, before the checkpoint is written.
        steps = None if begun.why_not else max(done, default=0) + math.ceil(1 / start.promise.rate - 1e-9)
        return shortened(begun, steps)
    return shortened(begun, start.steps)


def checked(training: RecordedTraining) -> RecordedTraining:
    """``training``, not to be counted where its promise cannot be added to others.

    ε is counted again from noise, rate and steps: a file that was changed, or one of a version that did not note all
    of them, must not come into a sum.
    """
    promise = training.promise
    assert promise is not None, "the caller has one"
    why_not = _not_of_whole_units(promise)
    if not why_not:
        again = _epsilon(training, promise.steps)
        if isinstance(again, str):
            why_not = again
        elif abs(again.epsilon - promise.epsilon) > 0.01 + 0.01 * promise.epsilon:
            why_not = f"its ε does not follow from its noise, rate and steps: they give {again.epsilon:.4g}"
    return replace(training, why_not=why_not)


def shortened(training: RecordedTraining, steps: int | None) -> RecordedTraining:
    """A `checked` training with the promise of its first ``steps`` steps; as it is where they are left out."""
    promise = training.promise
    assert promise is not None, "the caller has one"
    if training.why_not or steps is None:
        return training
    cost = _epsilon(training, steps)
    if isinstance(cost, str):
        return replace(training, why_not=cost)
    if steps >= promise.steps:
        return training
    # What else it says stays that of all steps, which is no less.
    return replace(training, promise=replace(promise, steps=steps, epsilon=cost.epsilon, check=cost.check))


def _epsilon(training: RecordedTraining, steps: int) -> EpsilonSpent | str:
    """ε of ``steps`` steps, or the reason why it cannot be counted."""
    from reticent.privacy import accounting  # the accountant takes a second to load

    promise = training.promise
    assert promise is not None, "the caller has one"
    try:
        if not isinstance(steps, int) or isinstance(steps, bool) or not 0 <= steps <= MOST_STEPS:
            raise BadInput("steps", f"{steps!r} is no number of steps", "Keep the file as it was written.")
        return accounting.spent(training.mechanism, steps=steps, delta=promise.delta)
    except (BadInput, ValueError, TypeError, ArithmeticError, RuntimeError, MemoryError) as error:
        reason = error.why if isinstance(error, BadInput) else type(error).__name__
        return f"its ε cannot be counted again: {reason}"


def _not_of_whole_units(promise: PrivacyGuarantee) -> str:
    if promise.covers != EVERYTHING:
        return "it covers marked spans only, and its other text is learned without noise"
    if promise.neighbouring != relation(promise.unit):
        return f"its neighbouring relation is another: {promise.neighbouring}"
    return ""


def relation(unit: str) -> str:
    """The neighbouring relation under which trainings are added up."""
    return f"add or remove one {unit}"


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput(path.name, "is broken", "Run the command again.") from error
    if not isinstance(settings, dict):
        raise BadInput(path.name, "is broken", "Run the command again.")
    return settings


def _manifest(run: RunFolder) -> dict[str, Any]:
    """The manifest's entry of the training; empty where there is none."""
    if not run.manifest.exists():
        return {}
    manifest = read_manifest(run.manifest)
    about = manifest.get("tune", {}) if isinstance(manifest, dict) else None
    if not isinstance(about, dict):
        raise BadInput("manifest.json", "is broken", "Run the command again.")
    return about


def _base(run: RunFolder, settings: dict[str, Any]) -> Path | None:
    """The model says it from wherever it is read; the settings say it as it was typed."""
    with suppress(BadInput):
        tuned = read_tuned(run.model)
        base = found_at(str(settings.get("base", "")), run.root) if tuned is None else tuned.base
        named = Path(base).expanduser()
        return named.resolve() if named.is_dir() else None
    return None


def _promise(run: RunFolder, manifest: dict[str, Any]) -> PrivacyGuarantee | None:
    """Of the model, or of the manifest where the weights were deleted."""
    if run.promise.exists():
        try:
            return PrivacyGuarantee.from_json(run.promise.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise BadInput(run.promise.name, "is no text", "Train again.") from error
    if "promise" in manifest:
        return PrivacyGuarantee.from_json(json.dumps(manifest["promise"]))
    return None


def _checkpoints(run: RunFolder) -> Iterator[Checkpoint]:
    """The step logs of the complete checkpoints in the folder."""
    for path in run.checkpoints.glob("checkpoint-*"):
        with suppress(BadInput):
            yield Checkpoint.read(path)


def _why(error: BadInput | OSError) -> str:
    if isinstance(error, BadInput):
        return f"{Path(error.given).name} {error.why}"
    return f"{Path(error.filename).name if error.filename else 'it'} cannot be read ({error.strerror})"
