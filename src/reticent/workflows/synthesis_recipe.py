# SPDX-License-Identifier: Apache-2.0
"""All that synthetic text is asked for beyond its data and its model, and how a run folder keeps it. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reticent.synthesis.synthesis_spec import SynthesisSpec
from reticent.train.config import TuneConfig


@dataclass(frozen=True, kw_only=True)
class SynthesisRecipe:
    """How synthetic texts are made; what is left out is at its default.

    Args:
        synthesis: the mechanism, the promise, how many texts.
        training: how a model is tuned, where the mechanism tunes one; device and dtype for all.

    Examples:
        >>> SynthesisRecipe(synthesis=SynthesisSpec(epsilon=8.0)).synthesis.mechanism
        'private_prediction'
    """

    synthesis: SynthesisSpec = field(default_factory=SynthesisSpec)
    training: TuneConfig = field(default_factory=TuneConfig)

    @property
    def on_record(self) -> dict[str, Any]:
        """For the run folder."""
        return {"synthesis": self.synthesis.on_record, "training": self.training.on_record}
