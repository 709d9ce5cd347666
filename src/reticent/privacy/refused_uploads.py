# SPDX-License-Identifier: Apache-2.0
"""Uploads that are refused: trackers that send the training's folder, where the noise's key lies, or gradients.

Read off every callback of ``transformers.integrations`` (5.x). What the others send is covered by the promise: the
finished model, or checkpoints, whose weights and optimizer state follow from noised gradients alone, and whose ledger
tells nothing of the key (MLflow, ClearML, Neptune, Flyte, W&B with ``WANDB_LOG_MODEL``, DVCLive with ``true``, and the
hub, which leaves out what begins with an underscore).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from reticent.privacy.training_setup import TrainingSetup, Violation

_TRUE = ("1", "true", "yes", "on", "y", "t")
_FOLDER = "the folder of the training is uploaded, where the key of the noise lies: who has it can subtract it"
_GRADIENTS = "gradients of single records are logged, before they are clipped and without noise"
_ACTIVATIONS = "what single records look like inside the model is logged, and no noise covers it"


class Sender(NamedTuple):
    """A variable by which a tracker is told to send what must stay.

    Args:
        variable: of the environment.
        tracker: its name in ``report_to``.
        callback: its class.
        values: that it must not have, in lower case.
        why: what is sent.
    """

    variable: str
    tracker: str
    callback: str
    values: tuple[str, ...]
    why: str


SENDERS = (
    Sender("COMET_LOG_ASSETS", "comet_ml", "CometCallback", _TRUE, _FOLDER),
    Sender("COMET_AUTO_LOG_HISTOGRAM_GRADIENTS", "comet_ml", "CometCallback", _TRUE, _GRADIENTS),
    Sender("COMET_AUTO_LOG_HISTOGRAM_ACTIVATIONS", "comet_ml", "CometCallback", _TRUE, _ACTIVATIONS),
    Sender("HF_DAGSHUB_LOG_ARTIFACTS", "dagshub", "DagsHubCallback", _TRUE, _FOLDER),
    Sender("HF_DVCLIVE_LOG_MODEL", "dvclive", "DVCLiveCallback", ("all",), _FOLDER),
    Sender("WANDB_WATCH", "wandb", "WandbCallback", ("gradients", "all"), _GRADIENTS),
)

_ATTRIBUTES = {"CometCallback": ("_log_assets", True), "DVCLiveCallback": ("_log_model", "all")}
"""Attributes by which callbacks made by hand are set, in place of an environment variable."""


def _uploads(training: TrainingSetup) -> Iterator[Violation]:
    trackers = getattr(training.args, "report_to", None) or ()
    trackers = (trackers,) if isinstance(trackers, str) else trackers
    classes = {name for callback in training.callbacks for name in _classes(callback)}
    for sender in SENDERS:
        value = os.environ.get(sender.variable, "")
        used = sender.tracker in trackers or "all" in trackers or sender.callback in classes
        if used and value.strip().lower() in sender.values:
            yield Violation(f"{sender.variable}={value}", sender.why, f"Unset {sender.variable}.")
    for callback in training.callbacks:
        for name in _classes(callback) & _ATTRIBUTES.keys():
            attribute, bad = _ATTRIBUTES[name]
            if getattr(callback, attribute, None) == bad:
                yield Violation(f"{name} with {attribute.lstrip('_')}={bad!r}", _FOLDER, "Leave it out.")


def _watched(training: TrainingSetup) -> Iterator[Violation]:
    """Hooks on parameters (``wandb.watch``) see each gradient that autograd makes, the self-check's among them."""
    watched = [
        name
        for name, parameter in training.model.named_parameters()
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    ]
    if watched:
        yield Violation(
            f"hooks on the gradients of {len(watched)} parameters ({watched[0]}{' …' if len(watched) > 1 else ''})",
            "they see gradients of single records, before they are clipped and without noise",
            "Remove them (wandb.unwatch(model)); what the optimizer is given can be read after the step.",
        )


def _classes(callback: Any) -> set[str]:
    """Names of the classes of a callback, or of one that is given as a class."""
    kind = callback if isinstance(callback, type) else type(callback)
    return {base.__name__ for base in kind.__mro__}


UPLOAD_RULES: tuple[Callable[[TrainingSetup], Iterator[Violation]], ...] = (_uploads, _watched)
