# SPDX-License-Identifier: Apache-2.0
"""Exact unlearning: train again as the run was trained, without what is to be forgotten.

It is the baseline that every other method is held against. Several such models, each with a seed of its own, say how
much two honest trainings differ, and so where an unlearned model has to lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.manifest import read_manifest
from reticent.core.record import Record
from reticent.core.run_folder import RunFolder
from reticent.models.locate import locate
from reticent.models.tuned import read_tuned
from reticent.models.weights import fingerprint_weights
from reticent.train.config import TuneConfig
from reticent.train.objectives.as_text import read_objectives
from reticent.train.trainer import tune


def retrain(
    run: RunFolder, retained: Sequence[Record], out: Path, *, seed: int | None = None, resume: bool = True
) -> Path:
    """Fine-tune the base of ``run`` on ``retained`` with the settings of the run; returns the folder of the model.

    The same call again goes on from the last checkpoint, or returns at once.

    Args:
        run: of `reticent tune`.
        retained: what was trained on, without what is to be forgotten.
        out: folder of the model.
        seed: of the training; None for the run's own.
        resume: go on from the last checkpoint; false starts from the beginning.

    Raises:
        BadInput: the run is private, or was ended by its monitor; its base has other weights than it had.
    """
    about = settings_of(run)
    base = base_of(run)
    training = replace(training_of(about, seed=seed), resume=resume)
    return tune(base, retained, out, training, objectives=read_objectives(about))


def settings_of(run: RunFolder) -> dict[str, Any]:
    """The settings of the training that made ``run``.

    Raises:
        BadInput: they are not there, or the training cannot be repeated without some of its records.
    """
    about = read_manifest(run.manifest).get("tune")
    if not isinstance(about, dict) or "training" not in about:
        raise BadInput(str(run.root), "does not say how its model was trained", "Run `reticent tune` again.")
    if about.get("privacy"):
        raise BadInput(
            f"{run.root}: training again",
            "the run is private: each further training with its noise would spend privacy on the same people again, "
            "and one without noise is no likeness of it",
            "Its own promise bounds what any record or user can have left; verify with --oracles 0.",
        )
    if about.get("federation"):
        raise BadInput(
            f"{run.root}: training again",
            "the run is of a federation, and one training in one place is no likeness of many rounds of many clients",
            "Federate again without these clients (reticent federate --drop_users), in a folder of its own; verify "
            "with --oracles 0.",
        )
    if about.get("monitor", {}).get("stop_at"):
        raise BadInput(
            f"{run.root}: training again",
            "its training was ended by what its members' losses showed (--stop_at), and another would end elsewhere",
            "Tune with --epochs in place of --stop_at, or verify with --oracles 0.",
        )
    return about


def training_of(about: dict[str, Any], *, seed: int | None = None) -> TuneConfig:
    """The settings of a training on record, for another one that reports to nobody."""
    training = replace(TuneConfig(**about["training"]), report_to="none", resume=True)
    return training if seed is None else replace(training, seed=seed % 2**31)


def base_of(run: RunFolder) -> str:
    """The base that ``run`` was tuned from.

    Raises:
        BadInput: it has other weights than it had.
    """
    tuned = read_tuned(run.model)
    if tuned is None:
        raise BadInput(str(run.model), "was not made by `reticent tune`", "Give a run folder of `reticent tune`.")
    if fingerprint_weights(locate(tuned.base)) != tuned.base_fingerprint:
        raise BadInput(
            tuned.base, "has other weights than when the run was tuned from it", "Put the base back, or tune again."
        )
    return tuned.base
