# SPDX-License-Identifier: Apache-2.0
"""Settings under which a privacy guarantee would not hold, or would be other than it seems. Each is refused by name.

Two tables of rules: ``SETTINGS`` (in `reticent.privacy.refused_settings`) look at one field of the training arguments,
``RULES`` at anything (at the model in ``refused_models``, at its task in ``refused_tasks``, at what is sent away in
``refused_uploads``). A new rule is one entry. All violations are found and raised together.

The guarantee needs that one unit's clipped gradient depends on that unit alone (so nothing may mix the records of a
batch), that batches are those of the plan's sampler, that nothing but the noised sum leaves the training, and that the
key of the noise stays here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import EarlyStoppingCallback
from transformers.data.data_collator import DataCollatorWithFlattening

from reticent.core.errors import BadInput
from reticent.privacy.refused_models import MODEL_RULES
from reticent.privacy.refused_settings import SETTINGS
from reticent.privacy.refused_tasks import TASK_RULES
from reticent.privacy.refused_uploads import UPLOAD_RULES
from reticent.privacy.rows import RowDigests, rows_of
from reticent.privacy.training_setup import TrainingSetup, Violation

__all__ = ["RULES", "TrainingSetup", "Violation", "copies", "refuse", "violations"]


def refuse(training: TrainingSetup) -> None:
    """Say all that stands against the guarantee.

    Raises:
        BadInput: at least one rule is violated; ``given``, ``why`` and ``fix`` have one line for each.
    """
    broken = violations(training)
    if len(broken) == 1:
        raise BadInput(*broken[0])
    if broken:
        reasons = "\n".join(f"- {violation.given}: {violation.why}. {violation.fix}" for violation in broken)
        raise BadInput(
            ", ".join(violation.given for violation in broken),
            f"the privacy guarantee would not hold as stated, for {len(broken)} reasons",
            f"All of them are to be mended:\n{reasons}",
        )


def violations(training: TrainingSetup) -> list[Violation]:
    """All violations, in the order of the tables."""
    broken = []
    for setting in SETTINGS:
        value = getattr(training.args, setting.name, None)
        value = getattr(value, "value", value)  # enumerations
        if setting.is_bad(value):
            broken.append(Violation(f"{setting.name}={value!r}", setting.why, setting.fix))
    for rule in RULES:
        broken += rule(training)
    return broken


def copies(rows: RowDigests | Iterable[Sequence[int] | npt.NDArray[np.integer]]) -> list[int]:
    """Positions of rows that repeat an earlier one, token for token; token ids are read one record at a time."""
    return rows_of(rows).copies()


def _steering(training: TrainingSetup) -> Iterator[Violation]:
    """A choice by an evaluation loss publishes that loss."""
    if training.evaluation is not None:
        return
    args = training.args
    strategy = getattr(getattr(args, "save_strategy", None), "value", getattr(args, "save_strategy", None))
    schedule = getattr(getattr(args, "lr_scheduler_type", None), "value", getattr(args, "lr_scheduler_type", None))
    steered = {
        "EarlyStoppingCallback": any(_is(callback, EarlyStoppingCallback) for callback in training.callbacks),
        "load_best_model_at_end=True": bool(getattr(args, "load_best_model_at_end", False)),
        'save_strategy="best"': strategy == "best",
        f"lr_scheduler_type={schedule!r}": schedule in ("reduce_lr_on_plateau", "greedy"),
    }
    for given in (name for name, used in steered.items() if used):
        yield Violation(
            given,
            "the training is steered by a loss, which tells of the records it was measured on and is not covered by ε",
            'Say what the evaluation set is: evaluation="held_out" (units that are not trained on; they are then not '
            'protected) or "public". Or leave this out.',
        )


def _loss(training: TrainingSetup) -> Iterator[Violation]:
    if training.compute_loss_func is not None:
        yield Violation(
            "compute_loss_func",
            "a loss of your own may mix the records of a batch, and its gradients would bypass the clipping",
            "Leave it out: the loss is each record's mean cross-entropy.",
        )
    if isinstance(training.collator, DataCollatorWithFlattening):
        yield Violation(
            type(training.collator).__name__,
            "the rows of a batch are joined into one, so a record's gradient cannot be told from its neighbours'",
            "Take a collator that pads.",
        )


def _is(callback: Any, kind: type) -> bool:
    return isinstance(callback, kind) or (isinstance(callback, type) and issubclass(callback, kind))


def _evaluated_on_training_data(training: TrainingSetup) -> Iterator[Violation]:
    shared = len(training.evaluated.shared(training.trained))
    if shared:
        yield Violation(
            f"{shared} of {len(training.evaluated)} evaluation records",
            "are trained on too, so their exact loss, which no noise covers, would be logged",
            "Evaluate on other records.",
        )


def _copied_records(training: TrainingSetup) -> Iterator[Violation]:
    if training.unit != "record":
        return
    again = len(training.trained.copies())
    if again:
        yield Violation(
            f"{again} of {len(training.trained)} records",
            "repeat an earlier one token for token: what occurs m times is protected at m times ε only",
            'Drop the copies, or protect users (unit="user").',
        )


def _streams(training: TrainingSetup) -> Iterator[Violation]:
    if training.train_dataset is not None and not hasattr(training.train_dataset, "__len__"):
        yield Violation(
            f"train_dataset {type(training.train_dataset).__name__}",
            "a stream has no known number of units, so none can be drawn with a known probability",
            "Give a dataset that has a length.",
        )


RULES: tuple[Callable[[TrainingSetup], Iterator[Violation]], ...] = (
    _streams,
    _loss,
    *UPLOAD_RULES,
    *MODEL_RULES,
    _steering,
    _evaluated_on_training_data,
    _copied_records,
    *TASK_RULES,
)
"""Rules that look at more than one field."""
