# SPDX-License-Identifier: Apache-2.0
"""What makes an ordinary training memorize less, without noise and without a promise. No torch, so that command lines
can show their help at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.privacy.spec import PrivacySpec
from reticent.train.config import TuneConfig

CONTEXT = 13
"""Tokens that decide whether the next one is left out (Hans et al., 2024)."""
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
        validate.positive(goldfish_context=self.goldfish_context)
        validate.non_negative(clip_batch=self.clip_batch)
        validate.in_range(-1e-12, 1 - 1e-12, label_smoothing=self.label_smoothing, dropout=self.dropout)
        for name in ("loss_floor", "clip_examples"):
            if getattr(self, name) is not None:
                validate.positive(**{name: getattr(self, name)})
        if self.goldfish is not None and self.goldfish < 2:
            raise BadInput(
                f"goldfish={self.goldfish!r}", "would leave (nearly) every token out", "Give 2 or more (4 is usual)."
            )
        if self.goldfish is None and self.goldfish_context != CONTEXT:
            raise BadInput(
                f"goldfish_context={self.goldfish_context}", "does nothing without goldfish", "Give --goldfish 4."
            )
        if self.clip_examples is not None and (self.label_smoothing or self.loss_floor is not None):
            raise BadInput(
                f"clip_examples={self.clip_examples!r} with label_smoothing or loss_floor",
                "the gradients that are clipped are those of the plain cross-entropy, so the other would silently be "
                "left out",
                "Give one of them.",
            )

    @property
    def is_on(self) -> bool:
        """Whether anything differs from an ordinary training."""
        return bool(self.changed)

    @property
    def changed(self) -> dict[str, Any]:
        """Settings that are not at their defaults."""
        given = asdict(self)
        return {field.name: given[field.name] for field in fields(self) if given[field.name] != field.default}

    def settled(self, config: TuneConfig, privacy: PrivacySpec | None = None) -> TuneConfig:
        """``config`` with the dropout in it.

        Raises:
            BadInput: the method has none, or was given another; or a setting would void a private training's promise,
                or silently be left out of it.
        """
        if privacy is not None and privacy.is_private:
            self._refuse_in_private(privacy)
        if not self.dropout:
            return config
        given = config.method_params.get("dropout", self.dropout)
        if config.method != "lora" or given != self.dropout:
            raise BadInput(
                f"dropout={self.dropout!r} with method={config.method!r}, method_params={config.method_params!r}",
                "it is the dropout of LoRA updates, and is given once",
                "Give --method lora, and dropout in one place.",
            )
        return replace(config, method_params=config.method_params | {"dropout": self.dropout})

    def _refuse_in_private(self, privacy: PrivacySpec) -> None:
        for name, is_bad, why, fix in _IN_PRIVATE:
            if name in self.changed and is_bad(privacy):
                raise BadInput(f"{name}={getattr(self, name)!r} in private training", why, fix)


_PLAIN = "the loss whose gradients are clipped is the plain cross-entropy, so this would silently be left out"

_IN_PRIVATE = (
    ("label_smoothing", lambda privacy: True, _PLAIN, "Leave --label_smoothing out."),
    ("loss_floor", lambda privacy: True, _PLAIN, "Leave --loss_floor out."),
    (
        "clip_examples",
        lambda privacy: True,
        "private training clips already, at the norm that its noise is made for",
        "Give --clip_norm.",
    ),
    (
        "clip_batch",
        lambda privacy: True,
        "it clips the noised sum, not each unit's gradient: it protects nobody",
        "Leave it out. What bounds each unit is --clip_norm.",
    ),
    (
        "goldfish",
        lambda privacy: privacy.protect == "spans",
        "with spans protected a text is trained on in two parts, and the loss of neither leaves tokens out",
        "Leave --goldfish out, or protect whole texts (--protect all).",
    ),
)
"""Setting, where it cannot be, why, and the fix."""
