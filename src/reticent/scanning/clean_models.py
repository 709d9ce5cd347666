# SPDX-License-Identifier: Apache-2.0
"""Clean models to compare a suspect with: made the way it was, or given in a folder.

A comparison is exact if the suspect would be exchangeable with them, were it clean: the same base, method, rank,
modules, rate, epochs and amount of data of the same kind, other seeds and rows. Each thing that differs moves spectra
too, and shows as an alarm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.validate import one_of, positive
from reticent.scanning.intake import CONFIG, refuse_folder_to_scan
from reticent.scanning.suspect import ADAPTER_FILE, Suspect
from reticent.scanning.weights.lora_factors import LoraSettings, read_settings
from reticent.train.config import TuneConfig

DRAWS = ("bootstrap", "shuffled")
LOG = "train_log.json"
FIX = "Give a folder with a subfolder for each clean model."
_FIRST_SEED = 1_000_003
"""Seeds of clean models begin here, far from those that people give."""
_OF_A_RUN = ("seed", "device", "dtype", "report_to", "resume")
"""Settings that do not make a recipe."""


@dataclass(frozen=True, kw_only=True)
class GivenModels:
    """Clean models of a folder.

    Args:
        models: those that the suspect can be compared with, by name.
        left_out: name and reason of each that it cannot.
    """

    models: tuple[Suspect, ...]
    left_out: tuple[tuple[str, str], ...]


def recipe_of(suspect: Suspect, training: TuneConfig | None = None) -> TuneConfig:
    """The way the suspect was tuned, as far as its folder tells.

    Of a folder of ``reticent tune`` the whole of it. Of another LoRA adapter its rank, alpha, dropout and modules; the
    rest is taken from ``training``.

    Args:
        suspect: an adapter, or a whole model of ``reticent tune``.
        training: rate, epochs and batch size where the folder does not tell them; None for the defaults.

    Raises:
        BadInput: the folder does not tell the method.
    """
    given = training or TuneConfig()
    logged = _logged(suspect.folder / LOG)
    if logged is not None:
        names = {field.name for field in fields(TuneConfig)} - set(_OF_A_RUN)
        try:
            return replace(given, **{name: value for name, value in logged.items() if name in names})
        except TypeError as error:
            raise _broken(suspect.folder / LOG, error) from error
    if not suspect.is_adapter:
        raise BadInput(
            str(suspect.folder),
            "does not tell how it was tuned, so nothing can be tuned alike",
            "Give clean models of your own (--clean).",
        )
    settings = read_settings(suspect.folder)
    targets: str | list[str] = settings.targets[0] if settings.targets == ("all-linear",) else list(settings.targets)
    params = {"r": settings.rank, "alpha": settings.alpha, "dropout": settings.dropout, "target_modules": targets}
    return replace(given, method="lora", method_params=params)


def make_clean(
    suspect: Suspect,
    folder: Path,
    n: int,
    *,
    rows: Sequence[Record] = (),
    training: TuneConfig | None = None,
    draw: str = "shuffled",
) -> tuple[Suspect, ...]:
    """Tune ``n`` clean models like the suspect, or go on where a killed call stopped.

    The rows must be clean, and of the kind and number that the suspect was tuned on: nothing here can know whether they
    hold the suspect's poison.

    Args:
        suspect: with its base.
        folder: for the models, one subfolder each; what is finished there is not made again.
        n: models; 19 make a level of 5 % possible.
        rows: to tune on; empty for the suspect's ``data``.
        training: see `recipe_of`.
        draw: ``"shuffled"``: the rows in an order of their own for each model, and where the suspect's log says that it
            was tuned on fewer, only so many of them; ``"bootstrap"``: as many, with replacement. The former is exact
            where the suspect was tuned on these rows, or on so many of the same source; the latter has the spread that
            comes from which rows there are where there are no more of them, but each model sees some twice.

    Raises:
        BadInput: no base or no rows, or a recipe or training that cannot be had.
    """
    from reticent.train.trainer import tune

    one_of(DRAWS, draw=draw)
    positive(n=n)
    if suspect.base is None:
        raise BadInput("clean models", "are tuned from the base of the suspect, and none was given", "Give --base.")
    texts = list(rows or suspect.data)
    if not texts:
        raise BadInput("clean models", "need rows to be tuned on, and none were given", "Give --data, or --clean.")
    recipe = replace(recipe_of(suspect, training), device=suspect.device)
    size = min(len(texts), _records_of(suspect.folder / LOG) or len(texts))
    models = []
    for number in range(n):
        of_model = _FIRST_SEED + (1000 * suspect.seed) % 10**6 + number
        out = tune(
            str(suspect.base),
            drawn(texts, size, draw=draw, seed=of_model),
            folder / f"clean-{number:03d}",
            replace(recipe, seed=of_model),
        )
        models.append(suspect.alike(out))
    return tuple(models)


def drawn(rows: Sequence[Record], size: int, *, draw: str, seed: int) -> list[Record]:
    """``size`` of the rows in a random order: with replacement (``"bootstrap"``; ids are numbered), or without.

    >>> rows = [Record(id=name, text=name) for name in "abc"]
    >>> sorted(row.id for row in drawn(rows, 3, draw="shuffled", seed=0)), len(drawn(rows, 5, draw="bootstrap", seed=0))
    (['a', 'b', 'c'], 5)
    """
    one_of(DRAWS, draw=draw)
    rng = np.random.default_rng(seed)
    if draw == "shuffled":
        return [rows[place] for place in rng.permutation(len(rows))[:size]]
    places = rng.integers(0, len(rows), size=size)
    return [replace(rows[place], id=f"{rows[place].id}#{number}") for number, place in enumerate(places)]


def read_clean(given: str | Path, suspect: Suspect) -> GivenModels:
    """The models in the subfolders of a folder that the suspect can be compared with; others are left out by name.

    Left out are adapters of another kind, base, rank, scale or modules, the suspect itself, copies of one another,
    which would count as several, and what cannot be read whole. Where the suspect's own settings cannot be read,
    nothing is known to differ: scanners of weights then refuse it by themselves.

    Args:
        given: a folder with a subfolder for each clean model, which may be a run folder.
        suspect: the model in question.

    Raises:
        BadInput: there is no folder, no model in it, or none that can be compared.
    """
    folder = Path(given).expanduser()
    if not str(given).strip() or "\0" in str(given) or not folder.is_dir():
        raise BadInput(f"--clean {given}", "is no folder of clean models", FIX)
    places = [(path.name, _model_in(path)) for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    found = [(name, place) for name, place in places if place is not None]
    if not found:
        raise BadInput(f"--clean {given}", "holds no folders of models", FIX)
    wanted = _readable(suspect.folder)
    holders = dict.fromkeys(_weights(suspect.folder), "the suspect itself")
    models: list[Suspect] = []
    left_out: list[tuple[str, str]] = []
    for name, place in found:
        reason = _why_not(name, place, wanted, holders)
        if reason:
            left_out.append((name, reason))
        else:
            models.append(suspect.alike(place))
    if not models:
        more = f", and {len(left_out) - 1} others" if len(left_out) > 1 else ""
        raise BadInput(
            f"--clean {given}",
            f"holds no model that the suspect can be compared with: {' '.join(left_out[0])}{more}",
            "Give clean models of the same base, method, rank and modules.",
        )
    return GivenModels(models=tuple(models), left_out=tuple(left_out))


def _model_in(place: Path) -> Path | None:
    """The folder of a model that a subfolder is, or as a run folder holds; None where there is none."""
    for folder in (place, place / "model"):
        if any((folder / name).is_file() for name in (CONFIG, ADAPTER_FILE)):
            return folder.resolve()
    return None


def _why_not(name: str, place: Path, wanted: _Likeness | None, holders: dict[str, str]) -> str:
    """The reason to leave a model out, in words; empty where it can be compared. Its weights are added to those held.

    Args:
        name: of the model.
        place: its folder.
        wanted: what must be alike; None where the suspect does not tell.
        holders: fingerprint of weights to who has them.
    """
    try:
        refuse_folder_to_scan(place)
        differs = wanted.differs(_Likeness.of(place)) if wanted is not None else ""
        if differs:
            return differs
        (weights,) = _weights(place) or ("",)
    except BadInput as error:
        return error.why
    if not weights:
        return "holds no safetensors file"
    held = holders.setdefault(weights, f"a copy of {name}")
    return "" if held == f"a copy of {name}" else f"is {held}"


def _readable(suspect: Path) -> _Likeness | None:
    try:
        return _Likeness.of(suspect)
    except BadInput:
        return None


def _weights(folder: Path) -> tuple[str, ...]:
    """Fingerprint of the weights in safetensors files; empty without such a file."""
    from reticent.models.weights import fingerprint_weights

    return (fingerprint_weights(folder),) if any(folder.glob("*.safetensors")) else ()


@dataclass(frozen=True, kw_only=True)
class _Likeness:
    """The things of a folder that must be alike in models that are compared."""

    settings: LoraSettings | None
    base: str
    base_fingerprint: str

    @staticmethod
    def of(folder: Path) -> _Likeness:
        from reticent.models.adapters import is_peft, named_base
        from reticent.models.tuned import read_tuned

        tuned = read_tuned(folder)
        adapter = is_peft(folder)
        named = named_base(folder) if adapter else (tuned.base if tuned else None)
        return _Likeness(
            settings=read_settings(folder) if adapter else None,
            base=Path(named).name if named else "",
            base_fingerprint=tuned.base_fingerprint if tuned else "",
        )

    def differs(self, other: _Likeness) -> str:
        """The first thing that differs, in words; empty where nothing does."""
        if (self.settings is None) != (other.settings is None):
            return "is a whole model" if other.settings is None else "is an adapter"
        if self.base_fingerprint and other.base_fingerprint:
            if self.base_fingerprint != other.base_fingerprint:
                return "was tuned from other weights"
        elif self.base and other.base and self.base != other.base:
            return f"was tuned from {other.base[:80]}, not from {self.base[:80]}"
        if self.settings is not None and other.settings is not None:
            for name in ("rank", "alpha", "ranks", "alphas", "stabilised", "targets"):
                mine, theirs = getattr(self.settings, name), getattr(other.settings, name)
                if mine != theirs:
                    return f"has {name} {str(theirs)[:80]}, not {str(mine)[:80]}"
        return ""


def _logged(path: Path) -> dict[str, Any] | None:
    """The settings of the training that ``reticent tune`` logged; None where there is no log."""
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["config"]
        return dict(config)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _broken(path, error) from error


def _records_of(path: Path) -> int | None:
    """How many records the training had, where its log tells."""
    try:
        count = json.loads(path.read_text(encoding="utf-8"))["records"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return count if isinstance(count, int) and count > 0 else None


def _broken(path: Path, error: Exception) -> BadInput:
    return BadInput(str(path), f"is no log of a training ({error})", "Copy the folder again.")
