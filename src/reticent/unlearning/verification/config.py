# SPDX-License-Identifier: Apache-2.0
"""Settings of a verification, as plain data that loads in no time."""

from __future__ import annotations

from dataclasses import dataclass

from reticent.core import validate
from reticent.core.errors import BadInput

MARGIN, LARGEST_MARGIN = 0.1, 0.2
"""Margin around an AUC of 0.5 that is aimed for, and the largest that still says anything."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """How far an unlearning is looked into.

    Args:
        attacks: membership attacks, as for the audit; None for those that the tables of two models are enough for.
        margin: AUCs within 0.5 ± margin count as like unseen; None for 0.1, or the smallest that so many rows can show
            with a power of 0.8 (above 0.2 the answer is "too few to tell").
        confidence: that all intervals of one check hold together.
        least: forget rows and unseen rows that the membership check needs, each; below, the retrained models decide.
        samples: sampled continuations of each forget row, for near-verbatim extraction; 0 for the exact numbers only.
        whitebox: look at hidden states and gradients too.
        robustness: relearn for a few steps, and round the weights, each beside its controls.
        relearn_steps: steps after which relearning is looked at.
        relearn_rate: learning rate of relearning.
        show_text: put what the unlearned model writes of the forget rows into the results. It is private text.
        dtype, device: of the models, as in `reticent.models.load.load`.
        seed: of sampling, halves and multipliers.

    Examples:
        >>> VerifyConfig(margin=0.15).confidence
        0.95
        >>> VerifyConfig(margin=0.3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: margin=0.3: would call an AUC of 0.8 like unseen. ...
    """

    attacks: str | None = None
    margin: float | None = None
    confidence: float = 0.95
    least: int = 40
    samples: int = 0
    whitebox: bool = False
    robustness: bool = False
    relearn_steps: tuple[int, ...] = (10, 50)
    relearn_rate: float = 1e-4
    show_text: bool = False
    dtype: str = "auto"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.margin is not None:
            validate.positive(margin=self.margin)
            if self.margin > LARGEST_MARGIN:
                raise BadInput(
                    f"margin={self.margin}",
                    f"would call an AUC of {0.5 + self.margin:.2g} like unseen",
                    f"Give at most {LARGEST_MARGIN}.",
                )
        if not 0.5 < self.confidence < 1:
            raise BadInput(f"confidence={self.confidence}", "is no coverage", "Give a number such as 0.95.")
        validate.positive(least=self.least, relearn_rate=self.relearn_rate)
        validate.non_negative(samples=self.samples)
        validate.seed(seed=self.seed)
        validate.device(device=self.device)
        steps = self.relearn_steps
        if not steps or min(steps) < 1 or list(steps) != sorted(set(steps)):
            raise BadInput(f"relearn_steps={steps}", "are no rising numbers of steps", "Give such as 10,50.")
