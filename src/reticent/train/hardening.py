# SPDX-License-Identifier: Apache-2.0
"""Flags of objectives that make an ordinary training memorize less, without noise and without a promise.

No torch, so that command lines can show their help at once; objectives are loaded once one is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from reticent.core.errors import BadInput

if TYPE_CHECKING:
    from reticent.train.objectives.objective import Objective

CONTEXT = 13
CLIP_BATCH = 1.0


@dataclass(frozen=True, kw_only=True)
class HardenConfig:
    """Cheap ways to memorize less. None of them promises anything: measure what each one does, with an audit.

    Args:
        goldfish: leave about one token in this many out of the loss, always the same one behind the same words, so that
            no text is learned whole (goldfish loss; 4 is usual).
        goldfish_context: how many tokens before it decide whether a token is left out.
        label_smoothing: share of each target that is spread over the whole vocabulary.
        loss_floor: mean loss of a record (nats a token) below which it is unlearned again instead of learned further.
        clip_examples: bound on the length of each record's gradient, without noise. It is no defence and no promise:
            against user inference it was found to change nothing, and it is here so that you can see that.
        clip_batch: bound on the length of a batch's gradient; 0 for none.
        dropout: chance that an input of a LoRA update is dropped in training.
        dedup_users: of a user's texts that are copies or nearly so, use only the first; which were left out is written
            to dropped.jsonl.

    Raises:
        BadInput: a value out of range, or settings that cannot work together.

    Examples:
        >>> HardenConfig(goldfish=4, dedup_users=True).changed
        {'goldfish': 4, 'dedup_users': True}
        >>> HardenConfig(goldfish=1)
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: goldfish=1: would leave (nearly) every token out. Give 2 or more (4 is usual).
    """

    goldfish: int | None = None
    goldfish_context: int = CONTEXT
    label_smoothing: float = 0.0
    loss_floor: float | None = None
    clip_examples: float | None = None
    clip_batch: float = CLIP_BATCH
    dropout: float = 0.0
    dedup_users: bool = False

    def __post_init__(self) -> None:
        if self.goldfish is None and self.goldfish_context != CONTEXT:
            raise BadInput(
                f"goldfish_context={self.goldfish_context}", "does nothing without goldfish", "Give --goldfish 4."
            )
        if self.is_on:
            from reticent.train.objectives.refusals import refuse_pairs

            refuse_pairs(self.objectives, {})

    @property
    def is_on(self) -> bool:
        """True where anything differs from an ordinary training."""
        return bool(self.changed)

    @property
    def changed(self) -> dict[str, Any]:
        """Settings that are not at their defaults."""
        given = asdict(self)
        return {field.name: given[field.name] for field in fields(self) if given[field.name] != field.default}

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives that the flags ask for."""
        if not self.is_on:
            return ()
        from reticent.train.objectives.objective import make_objective

        changed = {_OF[flag][0] for flag in self.changed}
        values: dict[str, dict[str, Any]] = {name: {} for name, _ in _OF.values() if name in changed}
        for flag, (name, setting) in _OF.items():
            if name in changed and setting:
                values[name][setting] = getattr(self, flag)
        return tuple(make_objective(name, settings) for name, settings in values.items())

    @classmethod
    def of(cls, objectives: Sequence[Objective]) -> HardenConfig:
        """The flags that ask for those of the objectives that have one here."""
        settings = {chosen.name: chosen.settings for chosen in objectives}
        given = {
            flag: settings[name][setting] if setting else True
            for flag, (name, setting) in _OF.items()
            if name in settings
        }
        return cls(**given)


_OF = {
    "goldfish": ("goldfish", "k"),
    "goldfish_context": ("goldfish", "context"),
    "label_smoothing": ("label_smoothing", "amount"),
    "loss_floor": ("loss_floor", "floor"),
    "clip_examples": ("clip_examples", "norm"),
    "clip_batch": ("clip_batch", "norm"),
    "dropout": ("lora_dropout", "rate"),
    "dedup_users": ("dedup_users", ""),
}
"""Each flag's objective and its setting; empty where the flag only switches it on."""
