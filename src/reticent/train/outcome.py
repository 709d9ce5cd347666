# SPDX-License-Identifier: Apache-2.0
"""The outcome of a training: the folder of the model, its log, and the errors of a disk that cannot hold them."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from reticent.core.errors import Unusable
from reticent.core.manifest import environment, now
from reticent.core.portable import portable, remember
from reticent.models import adapters
from reticent.models.held_weights import held_dtype, is_rounded
from reticent.models.load import LoadedModel
from reticent.models.locate import locate
from reticent.models.quantised import quantised_in
from reticent.models.tuned import TuningInfo, name_base
from reticent.models.tuning.method import trained_parameters
from reticent.train.batches import Corpus
from reticent.train.checkpoints import folder_for
from reticent.train.config import TuneConfig
from reticent.train.hardening import HardenConfig
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.as_text import on_record
from reticent.train.objectives.objective import Objective

KIND = "tuned model"

LOG = "train_log.json"
"""Beside the weights: settings, counts and the losses of each epoch. No text."""


def save(trainer: TuneTrainer, loaded: LoadedModel, tuned: TuningInfo, folder: Path, out: Path) -> Any:
    """Write the outcome of a training into ``folder`` as `save_model` does, and return it. Where processes share the
    model, the others give their parts (`TuneTrainer.whole`)."""
    model = trainer.outcome()
    with trainer.whole(model) as state:
        save_model(model, loaded, tuned, folder, out, state)
    return model


def save_model(
    model: Any,
    loaded: LoadedModel,
    tuned: TuningInfo,
    folder: Path,
    out: Path,
    state: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write the model into ``folder``, which becomes ``out``. Nothing in it names a place of this machine.

    Args:
        model: with the weights, or the shape of it where ``state`` has them.
        loaded, tuned: what it was made from.
        folder, out: where to.
        state: weights by name, for a model that holds a part of them.
    """
    adapters.save(model, folder, tuned.storage, state)
    loaded.tokenizer.save_pretrained(folder)
    named = portable(tuned.base, out)
    remember(tuned.base, tuned.base_fingerprint)
    replace(tuned, base=named).write(folder)
    name_base(folder, tuned.base, named)


def log_of(trainer: TuneTrainer, corpus: Corpus, config: TuneConfig, seconds: float) -> dict[str, Any]:
    return {
        "finished": now(),
        "config": asdict(config),
        "records": len(corpus.encoded),
        "trained_parameters": trained_parameters(trainer.model),
        "seconds_since_start_or_resume": round(seconds, 1),
        "history": trainer.state.log_history,
        "environment": environment(),
    }


def base_of(model: Any, tuned: TuningInfo) -> dict[str, Any]:
    """How the frozen base lay in memory, for the log; nothing where it lay in float32."""
    if bits := quantised_in(model):
        return {"base": {"held_in": bits, "rounded": True}}
    held = held_dtype(model)
    if not held:
        return {}
    return {"base": {"held_in": held, "rounded": is_rounded(locate(tuned.base), held)}}


def counts_of(corpus: Corpus) -> dict[str, int]:
    """Further figures of the data; each figure is exact, so a private training does not tell."""
    return {
        "truncated": corpus.truncated,
        "left_out": corpus.empty,
        "tokens": corpus.tokens,
        "trained_tokens": corpus.trained_tokens,
    }


def check_space(model: Any, tuned: TuningInfo, out: Path) -> None:
    """Refuse before hours of work rather than after: two checkpoints with AdamW's two moments, and the outcome."""
    trained = trained_parameters(model)
    all_of_it = sum(parameter.numel() for parameter in model.parameters())
    stored = trained if tuned.storage == "peft" else all_of_it
    needed = 4 * (2 * (stored + 2 * trained) + stored)
    free = shutil.disk_usage(folder_for(out)).free
    if needed > free:
        raise Unusable(
            str(out),
            f"the disk has {free / 2**30:.2f} GiB free, and checkpoints need {needed / 2**30:.2f}",
            "Choose another folder (--out).",
        )


def disk_error(out: Path, error: OSError) -> Exception:
    if error.errno == errno.EFBIG:
        return Unusable(str(out), "a file may not grow so large here (File too large)", "Raise the limit (ulimit -f).")
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    free = shutil.disk_usage(out.parent).free / 2**30
    return Unusable(
        str(out), f"the disk is full ({free:.1f} GiB free)", "Free some space and run the same command again."
    )


def log_of_objectives(objectives: Sequence[Objective], outcomes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The objectives for the log, under the names of `on_record`.

    Args:
        objectives: of the training.
        outcomes: what each says of what it made beside the model, by its name.
    """
    log = on_record(objectives)
    if "harden" in log:
        log["harden"] = asdict(HardenConfig.of(objectives))
    if "objectives" in log:
        log["objectives"] = {name: settings | outcomes[name] for name, settings in log["objectives"].items()}
    if "contextual" in log:
        others = log.get("objectives", {})
        log["contextual"] |= {
            key: value for name, item in outcomes.items() if name not in others for key, value in item.items()
        }
    return log
