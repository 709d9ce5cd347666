# SPDX-License-Identifier: Apache-2.0
"""Dropout at the inputs of LoRA updates."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.train.config import TuneConfig
from reticent.train.objectives.objective import Objective, objective


@objective("lora_dropout", alters={"model"}, private="always", flag="dropout={rate!r}")
@dataclass(frozen=True, kw_only=True)
class LoraDropout(Objective):
    """An input of a LoRA update is left out now and then.

    Args:
        rate: how often, in ``[0, 1)``.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        validate.in_range(-1e-12, 1 - 1e-12, dropout=self.rate)

    def settle(self, config: TuneConfig) -> TuneConfig:
        """With the rate among the parameters of the method.

        Raises:
            BadInput: the method has none, or was given another.
        """
        given = config.method_params.get("dropout", self.rate)
        if config.method != "lora" or given != self.rate:
            raise BadInput(
                f"{self.given} with method={config.method!r}, method_params={config.method_params!r}",
                "it is the dropout of LoRA updates, and is given once",
                "Give --method lora, and dropout in one place.",
            )
        return replace(config, method_params=config.method_params | {"dropout": self.rate})
