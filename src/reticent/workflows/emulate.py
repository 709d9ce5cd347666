# SPDX-License-Identifier: Apache-2.0
"""Steer a large model by what a small one learned: write the folder that names the three models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path

from reticent.core.atomic import replacing_folder, write_text
from reticent.core.errors import BadInput
from reticent.core.manifest import read_manifest
from reticent.core.outputs import refuse_empty, refuse_input
from reticent.core.portable import remember, stands_for
from reticent.core.redteam_marker import marker_of, write_marker
from reticent.core.run_folder import PROMISE_FILE, RunFolder
from reticent.models import adapters
from reticent.models.emulation import NO_PROMISE, ROLES, EmulationConfig, EmulationInfo, read_emulation
from reticent.models.load import load, pick_device, pick_dtype
from reticent.models.load_emulated import open_parts
from reticent.models.locate import locate
from reticent.models.tuned import read_tuned
from reticent.privacy.guarantee import PrivacyGuarantee
from reticent.workflows.learned_text import LearnedText

KIND = "emulated fine-tune"
_AFTER = ", and post-processing of the small model's predictions"
_NOT_CARRIED = (
    "The small model's promise is not carried over: the {} was itself tuned, on data that no promise here is about."
)


def emulate(
    large: str | Path,
    small_tuned: str | Path,
    *,
    out: str | Path,
    small_base: str | Path | None = None,
    config: EmulationConfig | None = None,
    device: str = "auto",
) -> EmulationInfo:
    """Write a folder that every verb takes as a model: a large model that never saw the private text, steered by the
    difference between a small model that was tuned on it and that one's base (arXiv:2310.12962).

    log π = log π_large + beta · (log π_tuned − log π_base), by token. No weights are copied: the folder names the three
    models by relative path and fingerprint, and they must stay where they are to each other. All three are opened once,
    to see that they go together. Where the small model was tuned under differential privacy, the ensemble keeps that
    promise (post-processing), and the folder says it; the large model's own training is not covered.

    Args:
        large: the model to steer: a folder, a hub id, or a catalogue name.
        small_tuned: a run folder of `reticent tune`, or a tuned model's folder.
        out: the folder to make.
        small_base: what the small model was tuned from; None for the base that it names.
        config: β, cap and filter; None for the defaults.
        device: to try the models on.

    Returns:
        The contents of the folder's file, with paths as they can be opened and the statement on privacy.

    Raises:
        BadInput: a model cannot be loaded, the base is not that of the tuned model, the tokenizers differ, or ``out``
            holds something else, such as another ensemble.

    Examples:
        >>> from reticent.core.record import Record
        >>> from reticent.testing.tiny import save_tiny
        >>> from reticent.train.config import TuneConfig
        >>> from reticent.workflows.tune import tune
        >>> notes = [Record(id=f"n{number}", text=f"note {number} to ann") for number in range(16)]
        >>> small = str(save_tiny("small"))
        >>> run = tune(notes, base=small, out="runs/small", tune_config=TuneConfig(epochs=1, max_tokens=16))
        >>> info = emulate(save_tiny("large", seed=7), run.root, out="emulated", config=EmulationConfig(beta=0.5))
        >>> info.settings.beta, load("emulated").emulation == info
        (0.5, True)
    """
    refuse_empty("out", out)
    run = run_of(small_tuned)
    tuned = run.model if run is not None else Path(small_tuned)
    inputs = {"the large model": large, "the small tuned model": small_tuned, "the small base": small_base}
    refuse_input(out, inputs)
    named = {"large": str(large), "small_tuned": str(tuned), "small_base": str(small_base or "")}
    _refuse_other(out, named, config or EmulationConfig())
    place = pick_device(device)
    opened = open_parts(
        str(large),
        str(tuned),
        None if small_base is None else str(small_base),
        config or EmulationConfig(),
        load=partial(load, dtype=pick_dtype("auto", place), device=place),
    )
    promise, statement = _promise(locate(str(tuned)), str(large), opened.info)
    if run is not None and (texts := _texts_of(run)) is not None:
        promise, statement = None, f"The small model learned synthetic texts. {texts.sentence}"
    info = replace(opened.info, run="" if run is None else str(run.root.resolve()), statement=statement)
    for role in ROLES:
        remember(getattr(info, role).source, getattr(info, role).fingerprint)
    with replacing_folder(out, kind=KIND, private=False) as folder:
        folder.mkdir()
        info.write(folder, place=Path(out))
        if promise is not None:
            write_text(folder / PROMISE_FILE, promise.to_json() + "\n", private=False)
        _carry_mark(folder, info)
    written = read_emulation(out)
    assert written is not None
    return written


def _refuse_other(out: str | Path, named: Mapping[str, str], config: EmulationConfig) -> None:
    """Refuse to put another ensemble in the place of one: audits of it would be of a model that is no longer there. The
    same one is made again, such as after a model of it was trained anew, and so is one whose file is broken.

    Args:
        out: the folder.
        named: what each model is named by now; empty where nothing is.
        config: settings now.

    Raises:
        BadInput: there is another one.
    """
    try:
        there = read_emulation(out)
    except BadInput:
        return
    if there is None:
        return
    others = [
        role for role in ROLES if named[role] and not stands_for(getattr(there, role).source, named[role], Path(out))
    ]
    other = [f"{name}={value}" for name, value in asdict(there.settings).items() if value != getattr(config, name)]
    if others or other:
        differs = ", ".join([*(f"{role} {getattr(there, role).source}" for role in others), *other])
        raise BadInput(
            str(out),
            f"holds another emulated fine-tune ({differs}), which audits may have been made of",
            "Choose another folder (--out), one for each, or delete this one.",
        )


def run_of(small_tuned: str | Path) -> RunFolder | None:
    """The run folder that was named, or that the named model's folder lies in; None where there is none."""
    named = Path(small_tuned).expanduser()
    for root in (named, named.resolve().parent):
        run = RunFolder(root=root)
        if run.model.is_dir() and any(run.settings(step) is not None for step in ("tune", "federate")):
            return run if root == named or named.name == run.model.name else None
    return None


def _promise(tuned: Path, large: str, info: EmulationInfo) -> tuple[PrivacyGuarantee | None, str]:
    """The promise that the ensemble keeps, and the sentences on it."""
    path = tuned / PROMISE_FILE
    if not path.is_file():
        return None, NO_PROMISE
    for role, source in (("large model", large), ("small base", info.small_base.source)):
        folder = locate(source)
        if read_tuned(folder) is not None or adapters.is_peft(folder):
            return None, _NOT_CARRIED.format(role)
    promise = PrivacyGuarantee.from_json(path.read_text(encoding="utf-8"))
    promise = replace(promise, mechanism=promise.mechanism + _AFTER)
    return promise, (
        f"{promise.sentence()}. The ensemble reads nothing of the private text but the small model's predictions, so "
        "the promise of that training is its own, with any beta, cap or top_p that was not chosen by looking at the "
        "private text. What the large model and the small base learned in their own training is not covered."
    )


def _texts_of(run: RunFolder) -> LearnedText | None:
    """The synthetic texts that a run learned, as far as its manifest says; None where it learned others."""
    about = read_manifest(run.manifest).get("texts") if run.manifest.is_file() else None
    names = [field.name for field in fields(LearnedText)]
    return LearnedText(**{name: str(about.get(name, "")) for name in names}) if isinstance(about, dict) else None


def _carry_mark(folder: Path, info: EmulationInfo) -> None:
    """Put the red team's mark on an ensemble that holds a model with the mark."""
    for role in ROLES:
        marker = marker_of(getattr(info, role).source)
        if marker is not None:
            write_marker(folder, kind=str(marker.get("kind", "unknown")), about={"emulate": role})
            return
