# SPDX-License-Identifier: Apache-2.0
"""A training with nothing left open, the base that it loads and the texts that it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from reticent.core.errors import BadInput
from reticent.core.progress import console
from reticent.core.record import Record
from reticent.models.context import context_length
from reticent.models.encode import EncodedRecord
from reticent.models.load import LoadedModel, load, pick_device
from reticent.models.locate import locate
from reticent.models.tuned import read_tuned
from reticent.models.tuning.method import TUNINGS, Tuning
from reticent.models.weights import fingerprint_weights
from reticent.privacy.spec import PrivacySpec
from reticent.train.batches import NOTHING, Corpus, encode_all
from reticent.train.config import TuneConfig
from reticent.train.identity import training_key
from reticent.train.objectives.apply import prepare_material
from reticent.train.objectives.material import TrainingMaterial
from reticent.train.objectives.objective import Objective
from reticent.train.start import hold_for, load_start

_PLAIN_ATTENTION = 2**19
"""Up to this many scores a head, plain attention trains faster on a CPU than the fused one (slow backward);
beyond, its memory tells."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A training with nothing left open. Arguments as those of `trainer.tune`."""

    base: str
    records: Sequence[Record]
    out: Path
    config: TuneConfig
    method: Tuning
    held_out: Sequence[Record]
    callbacks: Sequence[TrainerCallback]
    spec: PrivacySpec | None
    objectives: tuple[Objective, ...]
    record_sets: Mapping[str, Sequence[Record]]
    data: str
    goes_on: bool = False
    request: str = ""

    @property
    def untuned(self) -> str:
        """The model before any tuning."""
        tuned = read_tuned(locate(self.base)) if self.goes_on else None
        return self.base if tuned is None else tuned.base

    @property
    def hold(self) -> str:
        """See `hold_for`."""
        return hold_for(self.base, self.config, goes_on=self.goes_on)

    @property
    def is_shared_out(self) -> bool:
        """True if each of several processes holds a part of the model."""
        return self.config.strategy == "fsdp"

    @property
    def key(self) -> str:
        """See `training_key`."""
        weights = fingerprint_weights(locate(self.base))
        about = (self.records, self.held_out, self.config, self.spec, self.objectives, self.record_sets)
        key = training_key(weights, *about)
        return hashlib.sha256(f"{key} goes on for {self.request}".encode()).hexdigest() if self.goes_on else key


def load_base(task: Task) -> LoadedModel:
    """The model to be trained, in float32; where processes share it out, on the host, and each takes its part of it to
    its device later.

    Raises:
        BadInput: see `load_start`.
    """
    device = pick_device(task.config.device)
    place = "cpu" if task.is_shared_out else device
    return replace(load_start(task.base, place, goes_on=task.goes_on, hold=task.hold), device=device)


def _frozen_base(base: str, device: str, hold: str) -> Any:
    """The base once more, of which nothing is trained."""
    model = load(base, dtype="float32", device=device, hold=hold).model
    return model.eval().requires_grad_(False)


def read_texts(task: Task, loaded: LoadedModel) -> tuple[TrainingMaterial, Corpus]:
    """The texts that are trained on, and the held-out sample.

    Raises:
        BadInput: there is nothing to train on, or a text is longer than the model reads.
    """
    config, records = task.config, task.records
    material = prepare_material(
        task.objectives,
        records,
        loaded.tokenizer,
        config.max_tokens,
        record_sets=task.record_sets,
        reference=lambda: _frozen_base(task.untuned, config.device, task.hold),
    )
    corpus = material.corpus
    if not corpus.encoded:
        raise BadInput(
            f"{len(records)} records",
            f"none has a token to train on within its first {config.max_tokens}",
            "Check the fields that were read, or raise --max_tokens.",
        )
    sample = encode_all(task.held_out, loaded.tokenizer, config.max_tokens) if task.held_out else NOTHING
    others = [encoded for further in material.record_sets.values() for encoded in further.encoded]
    _check_lengths(loaded.model, [*corpus.encoded, *sample.encoded, *others], config)
    for count, what in ((corpus.truncated, "cut off"), (corpus.empty, "left out, nothing of them is predicted")):
        if count:
            console.print(f"{count} of {len(records)} records {what}", style="yellow", highlight=False)
    return material, sample


def _check_lengths(model: Any, encoded: Sequence[EncodedRecord], config: TuneConfig) -> None:
    """Refuse texts that are longer than the model reads, with the virtual tokens that the method puts before them."""
    longest = max(len(text) for text in encoded)
    context = context_length(model) or longest
    params = TUNINGS.get(config.method).defaults | config.method_params
    asked = params.get("virtual_tokens")
    virtual = max(0, asked) if isinstance(asked, int) else 0  # what else it may be, the method refuses by name
    if longest + virtual > context:
        before = f" behind {virtual} virtual ones" if virtual else ""
        fix = f"Give --max_tokens {context - virtual} or less."
        raise BadInput(
            f"max_tokens={config.max_tokens}",
            f"the model reads at most {context} tokens and the longest record has {longest}{before}",
            fix if context > virtual else "Give fewer virtual_tokens.",
        )


def settle_attention(loaded: LoadedModel, rows: int, longest: int) -> None:
    """Choose the kind of attention that trains fastest.

    Args:
        loaded: the base, on its device.
        rows: texts that a forward pass sees at most.
        longest: tokens of the longest of them.
    """
    if loaded.device == "cpu" and rows * longest**2 <= _PLAIN_ATTENTION:
        loaded.model.set_attn_implementation("eager")
