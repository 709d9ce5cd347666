# SPDX-License-Identifier: Apache-2.0
"""All that synthetic text is asked for beyond its data and its model, and how a run folder keeps it. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from reticent.core.errors import BadInput
from reticent.data.canaries.canary_config import CanaryConfig
from reticent.data.split_config import SplitConfig
from reticent.synthesis.synthesis_spec import INSTRUCTION, SynthesisSpec
from reticent.train.config import TuneConfig
from reticent.workflows.sampled_canaries import KIND, kind_after


@dataclass(frozen=True, kw_only=True)
class SynthesisRecipe:
    """How synthetic texts are made; what is left out is at its default.

    Args:
        synthesis: the mechanism, the promise, how many texts.
        canaries: secrets that are planted by coin, for the audit; then coins are thrown for the records too.
        split: how coins are thrown, where records are held out.
        training: how a model is tuned, where the mechanism tunes one; device and dtype for all.

    Raises:
        BadInput: a training that begins anew: texts go on where they were, with the model that wrote the first of them.

    Examples:
        >>> SynthesisRecipe(synthesis=SynthesisSpec(epsilon=8.0)).synthesis.mechanism
        'private_prediction'
    """

    synthesis: SynthesisSpec = field(default_factory=SynthesisSpec)
    canaries: CanaryConfig = field(default_factory=CanaryConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    training: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        if not self.training.resume:
            raise BadInput(
                "resume=False for synthetic texts",
                "a model would be trained again behind texts of the one before, and what is promised counts one "
                "training",
                "Leave --resume out; to start over, choose another folder (--out).",
            )

    @property
    def plants(self) -> bool:
        """True if anything is planted."""
        return bool(self.canaries.canaries or self.canaries.canary_users)

    @property
    def planted(self) -> CanaryConfig:
        """``canaries``; where a model writes them, with the public words that it writes them after, as far as the
        settings have any that are made for this data.

        Examples:
            >>> spec = SynthesisSpec(epsilon=8.0, topics="parcels, refunds", instruction="A mail about {topic}:")
            >>> canaries = CanaryConfig(canaries=9, canary_kind="high_temperature")
            >>> SynthesisRecipe(synthesis=spec, canaries=canaries).planted.canary_kind
            'high_temperature(A mail about parcels:|A mail about refunds:)'
        """
        spec = self.synthesis
        if self.canaries.canary_kind != KIND:
            return self.canaries
        words: tuple[str, ...] = ()
        if spec.condition != "none":
            words = spec.cells
        elif spec.instruction != INSTRUCTION:
            words = tuple(map(spec.prompt, range(max(1, len(spec.topic_list)))))
        return replace(self.canaries, canary_kind=kind_after(words))

    @property
    def on_record(self) -> dict[str, Any]:
        """For the run folder; what is off is left out."""
        parts = {"synthesis": self.synthesis.on_record, "training": self.training.on_record}
        parts |= {"split": asdict(self.split)} if self.split != SplitConfig() else {}
        return parts | ({"canaries": asdict(self.canaries)} if self.plants else {})
