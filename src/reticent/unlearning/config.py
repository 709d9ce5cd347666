# SPDX-License-Identifier: Apache-2.0
"""The settings of an unlearning. No torch, so that command lines can show their help at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.train.config import DTYPES

MARGIN = 0.1
RETAIN_BUDGET = 0.02


@dataclass(frozen=True, kw_only=True)
class UnlearnConfig:
    """How to unlearn.

    Args:
        method: what is minimised on the texts to be forgotten (docs/unlearning_methods.md lists all). Three have no
            loss: retrain trains again without them, shards leaves out those of a run made in shards that hold one,
            and negation takes a task vector back.
        method_params: parameters of the method, for example {"beta": 0.1}.
        forget_weight: weight of the term of the texts to be forgotten; left out, the method's own.
        retain_weight: weight of the term of the others; left out, the method's own.
        token_quantile: unlearn only tokens on which the tuned model gained more over its base than this share of the
            tokens of unseen texts; left out, all of them, or what the method says. With any method that is a loss.
        epochs: at most so many passes over the texts to be forgotten; left out, the method's own, and with the panel
            enough for 100 steps.
        learning_rate: peak of the schedule; left out, the method's own for full models, and for adapters as many times
            that as adapters are tuned with.
        batch_size: texts to be forgotten in a step, beside as many others.
        stop: panel ends once texts to be forgotten look like unseen ones, or others have lost too much; epochs runs all
            epochs, as papers do.
        every: look at the panel every so many steps; left out, after each pass, and 20 times at most, and where fewer
            than 40 texts are forgotten after each step.
        margin: how near to 0.5 the AUC of texts to be forgotten against unseen ones has to be.
        retain_budget: by how much the loss of the other texts may rise, as a share of what unseen texts cost; over all
            requests in a row since the model was trained.
        seed: of the order, of what is drawn, and of dropout.
        dtype: what is computed in; weights stay float32. "auto" is bfloat16 where the machine has it.
        device: "auto" is the GPU if there is one.
        resume: go on from the last checkpoint of the same unlearning; false starts from the beginning.

    Examples:
        >>> UnlearnConfig(method="npo", method_params={"beta": 0.2}).margin
        0.1
    """

    method: str = "npo"
    method_params: dict[str, Any] = field(default_factory=dict)
    forget_weight: float | None = None
    retain_weight: float | None = None
    token_quantile: float | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int = 8
    stop: str = "panel"
    every: int | None = None
    margin: float = MARGIN
    retain_budget: float = RETAIN_BUDGET
    seed: int = 0
    dtype: str = "auto"
    device: str = "auto"
    resume: bool = True

    def __post_init__(self) -> None:
        validate.one_of(("panel", "epochs"), stop=self.stop)
        validate.one_of(DTYPES, dtype=self.dtype)
        validate.positive(batch_size=self.batch_size, retain_budget=self.retain_budget)
        if self.token_quantile is not None:
            validate.in_range(0, 1 - 1e-9, token_quantile=self.token_quantile)
        validate.in_range(0, 0.2, margin=self.margin)
        validate.seed(seed=self.seed)
        validate.device(device=self.device)
        for name in ("epochs", "learning_rate", "every"):
            if getattr(self, name) is not None:
                validate.positive(**{name: getattr(self, name)})
        for name in ("forget_weight", "retain_weight"):
            if getattr(self, name) is not None:
                validate.non_negative(**{name: getattr(self, name)})
        if self.every is not None and self.stop == "epochs":
            raise BadInput(f"every={self.every} with stop='epochs'", "nothing is looked at then", "Leave one out.")

    @property
    def on_record(self) -> dict[str, Any]:
        """The settings that a folder keeps, to know the same unlearning again."""
        return asdict(self) | {"resume": True}
