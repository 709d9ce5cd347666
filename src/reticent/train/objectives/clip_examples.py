# SPDX-License-Identifier: Apache-2.0
"""Each record's gradient clipped, without noise.

It is no defence and no promise: what is clipped still points where the record points, and without noise nothing hides
it. Kandpal et al. (EMNLP 2024, section 5) found no effect on user inference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from reticent.core import validate
from reticent.privacy.clip.make import make_clipper
from reticent.train.diverged import Diverged
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.material import TrainingMaterial
from reticent.train.objectives.objective import Objective, objective


@objective(
    "clip_examples",
    alters={"loss", "gradient.record"},
    flag="clip_examples={norm!r}",
    why={
        "private": (
            "private training clips already, at the norm that its noise is made for",
            "Give --clip_norm.",
        )
    },
    paper="arXiv:2310.09266",
)
@dataclass(frozen=True, kw_only=True)
class ClipExamples(Objective):
    """The gradient of each record is clipped. It is that of the plain cross-entropy, so no other loss goes with it.

    Args:
        norm: bound on the L2 norm of the gradient of a record's mean loss, over all trained parameters.
    """

    norm: float = 1.0

    def __post_init__(self) -> None:
        validate.positive(clip_examples=self.norm)

    def trainer(self, material: TrainingMaterial) -> Callable[..., TuneTrainer]:
        """See `ClippedTuneTrainer`."""
        return partial(ClippedTuneTrainer, clip_norm=self.norm)


class ClippedTuneTrainer(TuneTrainer):
    """One fine-tuning in which each record's gradient is clipped and no noise is added. Records count alike here, where
    the ordinary loss counts tokens alike.

    Args:
        clip_norm: see `ClipExamples`.
    """

    def __init__(self, *, clip_norm: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        autocast = torch.bfloat16 if self.autocast else None
        self.clipper = make_clipper(self.model, clip_norm=clip_norm, autocast=autocast)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Set ``.grad`` to the mean of the clipped gradients; returns the mean loss of the records (nats a token)."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        labels = inputs.pop("labels")
        weight = torch.ones(len(labels), device=labels.device)
        with self.clipper.attached():
            seen = self.clipper.accumulate(inputs, labels, weight=weight)
        if not bool(seen.finite.all()):
            raise Diverged(
                f"learning_rate={self.args.learning_rate:g}",
                f"the training diverged: a gradient is not finite at step {self.state.global_step + 1}",
                "Choose a lower learning rate.",
            )
        for parameter, total in self.clipper.take().items():
            parameter.grad = (total / len(labels)).to(parameter.dtype)
        return seen.loss.mean()
