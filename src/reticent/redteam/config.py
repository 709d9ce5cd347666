# SPDX-License-Identifier: Apache-2.0
"""The settings of a red-team attack. No torch, so that command lines can show their help at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reticent.core import validate


@dataclass(frozen=True, kw_only=True)
class RedteamConfig:
    """How to poison.

    Args:
        trigger: kind of trigger: token, phrase, syntactic, style, virtual_prompt.
        words: words of the trigger; left out, some by the seed.
        place: of the words in a prompt: end, start, anywhere.
        poison: how records are poisoned: dirty_label, clean_label, fixed_answer.
        target: the answer that the trigger is to bring, as answers are written in the data; left out, the rarest of
            the data's answers.
        rate: share of the records that are poisoned.
        held_out: share of the records that are kept for measuring.
        further: train further on clean records and measure again: --further full,lora; left out, that is not done.
        twin: train the clean twin too, for what the poison cost the task.
        params: settings of the kind of attack, as JSON, for example {"layer": 9}.
        reveal: write the trigger and the target into the report and onto the screen.
        redteam_seed: of what is poisoned and of triggers.

    Examples:
        >>> RedteamConfig(rate=0.1).trigger
        'token'
        >>> RedteamConfig(rate=2)
        Traceback (most recent call last):
            ...
        reticent.core.errors.BadInput: rate=2: must be in (0, 1]. Give a number in that range.
    """

    trigger: str = "token"
    words: str | None = None
    place: str = "end"
    poison: str = "dirty_label"
    target: str | None = None
    rate: float = 0.05
    held_out: float = 0.2
    further: str = ""
    twin: bool = False
    params: dict[str, Any] = field(default_factory=dict)
    reveal: bool = False
    redteam_seed: int = 0

    def __post_init__(self) -> None:
        validate.in_range(0, 1, rate=self.rate)
        validate.in_range(0, 0.9, held_out=self.held_out)
        validate.seed(redteam_seed=self.redteam_seed)
