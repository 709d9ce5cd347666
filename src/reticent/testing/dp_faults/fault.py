# SPDX-License-Identifier: Apache-2.0
"""Named faults of a private training, each planted in the product's own engine, to see whether its self-check stops it.

A fault is a few lines that break one thing: noise, clipping, batches, accounting, or what reaches the weights beside
them. `run` makes a small private training with one fault (or none) and says whether, and when, it was stopped. The list
is for `benchmarks/dp_faults.py` and for the tests; whoever changes the engine should add the fault that they fear.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from reticent.core.errors import BadInput
from reticent.models.tuning.method import TUNINGS
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.plan import make_plan
from reticent.privacy.spec import PrivacySpec
from reticent.testing.tiny import tiny_of_family
from reticent.train.private.private_trainer import PrivateSpeed, PrivateTrainerMixin

STEPS, RECORDS, BATCH, CLIP_NORM = 30, 100, 12, 0.5
PER_USER = 4
SPEC = PrivacySpec()


@dataclass(frozen=True, kw_only=True)
class FaultSetting:
    """The training in which a fault is planted.

    Args:
        unit: of the promise; with "user" each has ``PER_USER`` records.
        family, tuning: of the model.
        clipping: see ``PrivacySpec``.
        bfloat16: whether activations are in it.
        steps: of the plan.
        seed: of the texts and the key.
    """

    unit: str = "record"
    family: str = "llama"
    tuning: str = "full"
    clipping: str = "flat"
    bfloat16: bool = False
    steps: int = STEPS
    seed: int = 0


@dataclass(kw_only=True)
class TrainerUnderTest:
    """The trainer that a fault is planted in, and a way to replace one of its parts."""

    trainer: Any
    patches: ExitStack
    memory: dict[str, Any] = field(default_factory=dict)

    def put(self, owner: Any, name: str, value: Any) -> Any:
        """Replace an attribute while the run lasts; returns what was there."""
        before = getattr(owner, name)
        self.patches.enter_context(mock.patch.object(owner, name, value))
        return before

    def each_step(self, act: Callable[[int], object]) -> None:
        """Call ``act(step)`` at the end of every step, as a callback of the user's would be."""

        class Act(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                act(int(state.global_step) - 1)

        self.trainer.add_callback(Act())

    def put_noise(self, change: Callable[..., Any]) -> None:
        """Put ``change(right, x, step=, index=, std=, scale=, key=)`` in the place of ``add_noise``."""
        from reticent.train.private import private_trainer as private

        right = vars(private)["add_noise"]
        self.put(private, "add_noise", lambda x, **given: change(right, x, **given))

    @property
    def weights(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.trainer.model.named_parameters() if p.requires_grad]


class Fault(NamedTuple):
    """One thing that is wrong.

    Args:
        name: what.
        costs_privacy: whether the promise is broken by it, and not only the model worse.
        plant: breaks it.
        setting: in which training.
        outcome: looks at a finished trainer, where the fault shows in what is stated and not in the run; None: it has
            to be stopped.
    """

    name: str
    costs_privacy: bool
    plant: Callable[[TrainerUnderTest], None]
    setting: FaultSetting
    outcome: Callable[[Any], bool] | None = None


class FaultOutcome(NamedTuple):
    """How a run ended.

    Args:
        step: at which it was stopped, from 0; None where it was not.
        why: what it was stopped by, or what was seen at the end.
        caught: whether the fault shows.
    """

    step: int | None
    why: str
    caught: bool


class PrivateTrainer(PrivateTrainerMixin, Trainer):  # type: ignore[misc]
    """A private trainer as a user of transformers writes it."""


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, *, privacy: bool = True, outcome: Callable[[Any], bool] | None = None, **setting: Any
) -> Callable[[Callable[[TrainerUnderTest], None]], Callable[[TrainerUnderTest], None]]:
    """Register a fault under its name."""

    def register(plant: Callable[[TrainerUnderTest], None]) -> Callable[[TrainerUnderTest], None]:
        assert name not in FAULTS, name
        FAULTS[name] = Fault(name, privacy, plant, FaultSetting(**setting), outcome)
        return plant

    return register


def run(planted: Fault | None = None, setting: FaultSetting | None = None) -> FaultOutcome:
    """Train once, with the fault or right, and say how it ended."""
    setting = setting or (planted.setting if planted else FaultSetting())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        trainer = make_trainer(setting, folder)
        try:
            if planted is not None:
                planted.plant(TrainerUnderTest(trainer=trainer, patches=patches))
            trainer.train()
        except GuaranteeViolated as error:
            return FaultOutcome(int(trainer.state.global_step), str(error), True)
        except BadInput as error:
            return FaultOutcome(int(trainer.state.global_step), f"refused: {error}", True)
        if planted is not None and planted.outcome is not None:
            return FaultOutcome(None, "in what is stated", planted.outcome(trainer))
    return FaultOutcome(None, "", False)


def make_trainer(setting: FaultSetting, folder: str) -> PrivateTrainer:
    """A tiny model on random texts of different lengths; the noise is that of ``noise_multiplier`` 1."""
    draw = np.random.default_rng(setting.seed)
    rows = [{"input_ids": draw.integers(5, 250, size=draw.integers(3, 20)).tolist()} for _ in range(RECORDS)]
    if setting.unit == "user":
        rows = [row | {"user": f"u{place // PER_USER}"} for place, row in enumerate(rows)]
    units = RECORDS if setting.unit == "record" else RECORDS // PER_USER
    spec = PrivacySpec(
        noise_multiplier=1.0,
        clip_norm=CLIP_NORM,
        unit=setting.unit,
        clipping=setting.clipping,
        records_per_user=PER_USER if setting.unit == "user" else SPEC.records_per_user,
    )
    key = hashlib.sha256(f"faults {setting.seed}".encode()).digest()
    batch = min(BATCH, units // 3)
    model = tiny_of_family(setting.family, seed=setting.seed)
    return PrivateTrainer(
        model=TUNINGS.get(setting.tuning)(model).train(),
        args=TrainingArguments(
            folder, max_grad_norm=0.0, learning_rate=1e-3, use_cpu=True, report_to="none", save_strategy="no",
            disable_tqdm=True, logging_strategy="no", remove_unused_columns=False, bf16=setting.bfloat16,
        ),
        train_dataset=rows,
        plan=lambda people: make_plan(spec, people, batch_size=batch, steps=setting.steps, key=key),
        speed=PrivateSpeed(micro_tokens=80),
    )  # fmt: skip
