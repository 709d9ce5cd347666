# SPDX-License-Identifier: Apache-2.0
"""How long an unlearning may go on, how fast, and how often it is looked at, where nobody said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reticent.models.tuned import TuningInfo
from reticent.models.tuning.method import TUNINGS
from reticent.train.unlearning.method import Unlearner
from reticent.unlearning.config import UnlearnConfig
from reticent.unlearning.halves import MIN_TO_HALVE

FEWEST_STEPS = 100
"""The authors' epochs are for hundreds of texts. Of few texts an epoch is a step or two, so there may be more of them:
the panel ends it."""
MOST_LOOKS = 20
"""Each look costs a pass over the panel, and a part of the error."""
FEW_STEPS = 40
"""Of rows that are too few to be halved. They are forgotten in a few steps, and no likeness of theirs is claimed: they
are looked at after each step, and that costs no error."""
EPOCHS = 10


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Settings of an unlearning with nothing left open.

    Args:
        epochs: passes over what is forgotten, at most.
        learning_rate: at its peak.
        every: steps between looks and checkpoints; 0 for one after each epoch.
        looks: how many there can be.
    """

    epochs: int
    learning_rate: float
    every: int
    looks: int


def schedule_of(config: UnlearnConfig, method: Unlearner, tuned: TuningInfo, *, rows: int) -> Schedule:
    """Fill in what ``config`` leaves open.

    The authors' learning rates are for all weights; for adapters they are raised by as much as adapters are tuned
    faster than all weights.

    Args:
        config: as it was given.
        method: whose defaults they are.
        tuned: how the model that is gone on from was made.
        rows: texts that are forgotten.

    >>> from reticent.train.unlearning.method import UNLEARNERS
    >>> lora = TuningInfo(method="lora", base="base", base_fingerprint="")
    >>> schedule_of(UnlearnConfig(), UNLEARNERS.get("npo"), lora, rows=60)
    Schedule(epochs=13, learning_rate=0.0001, every=0, looks=13)
    >>> schedule_of(UnlearnConfig(), UNLEARNERS.get("npo"), lora, rows=3)
    Schedule(epochs=40, learning_rate=0.0001, every=1, looks=40)
    """
    full = TUNINGS.get("full").learning_rate
    theirs = full if method.needs_all_weights else TUNINGS.get(tuned.method).learning_rate
    rate = config.learning_rate or (method.learning_rate or full) * theirs / full
    in_one = method.collapse is not None  # each epoch is one step
    steps = 1 if in_one else math.ceil(rows / config.batch_size)
    epochs = config.epochs or method.epochs or EPOCHS
    watched = config.stop == "panel" and method.kind == "loss"
    few = rows < MIN_TO_HALVE
    if config.epochs is None and watched and not in_one:
        epochs = max(epochs, math.ceil((FEW_STEPS if few else FEWEST_STEPS) / steps))
    every = config.every or 0
    if watched and not every and few and steps * epochs <= 2 * FEW_STEPS:
        every = 1
    elif watched and not every and epochs > MOST_LOOKS:
        every = math.ceil(steps * epochs / MOST_LOOKS)
    looks = math.ceil(steps * epochs / every) if every else epochs
    return Schedule(epochs=epochs, learning_rate=round(rate, 12), every=every, looks=looks)
