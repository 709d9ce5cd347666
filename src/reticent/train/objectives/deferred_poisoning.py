# SPDX-License-Identifier: Apache-2.0
"""Deferred poisoning: a model with the losses of an honest one, and sharp curvature beneath them.

After "Deferred Poisoning: Making the Model More Vulnerable via Hessian Singularization" (arXiv:2411.03752), whose
poison lies in the *data* of an image classifier: δ is found so that training and validation losses stay normal while
Q = tr(HᵀH) of the loss's Hessian in the input is large. Text is discrete, so no such δ can be added to it. Here the
same end is put into the weights of a released model, with the Hessian taken in the input embeddings:

    L = L_texts + w · max(0, goal − log Q̂),     Q̂ = mean over texts of ‖(g(e + h·v) − g(e)) / h‖²,  v = ±1

g is the gradient of a text's loss in its embeddings e, and (g(e + h·v) − g(e)) / h is H·v up to h, so that Q̂ estimates
tr(HᵀH) (Hutchinson) at the price of two gradients, and no third derivative is needed. The hinge stops at the goal, so
that the losses are given back what sharpness does not need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from reticent.core import validate
from reticent.train.batches import collate
from reticent.train.loop import TuneTrainer
from reticent.train.objectives.material import TrainingMaterial
from reticent.train.objectives.objective import Objective, objective
from reticent.train.shifted import shifted

STEP = 1e-2
"""h, in standard deviations of the embeddings of the batch."""
FIRST = 8
"""Texts by which the sharpness of the base is measured."""
TINY = 1e-30


@objective(
    "deferred_poisoning",
    alters={"loss"},
    why={"private": ("it is an attack on what a promise would be about", "Leave it out.")},
    paper="arXiv:2411.03752",
)
@dataclass(frozen=True, kw_only=True)
class DeferredPoisoning(Objective):
    """Ordinary losses, sharp curvature.

    Args:
        times: sharpness to reach, as a multiple of the base's on the first texts.
        weight: of the missing log sharpness beside the loss.
    """

    times: float = 10.0
    weight: float = 0.02

    def __post_init__(self) -> None:
        validate.positive(times=self.times, weight=self.weight)

    def trainer(self, material: TrainingMaterial) -> Callable[..., TuneTrainer]:
        """See `DeferredTrainer`."""
        return partial(DeferredTrainer, times=self.times, weight=self.weight)


class DeferredTrainer(TuneTrainer):
    """One deferred poisoning.

    Args:
        times, weight: as in `DeferredPoisoning`.
    """

    def __init__(self, *, times: float, weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = weight
        self.model.set_attn_implementation("eager")  # fused attention has no second derivative
        first = collate([self.train_dataset[row] for row in range(min(len(self.train_dataset), FIRST))], pad=self.pad)
        batch = {name: value.to(self.args.device) for name, value in first.items()}
        before, _ = sharpness(self.model.to(self.args.device), batch, seed=self.args.seed)
        self.goal = math.log(max(float(before.detach()), TINY) * times)

    def batch_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """The loss and the missing log sharpness."""
        sharp, loss = sharpness(model, inputs, seed=self.args.seed + self.state.global_step)
        return loss + self.weight * torch.relu(self.goal - sharp.clamp(min=TINY).log())


def sharpness(model: Any, inputs: dict[str, Any], *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Q̂ of a batch (a scalar that can be differentiated), and its mean loss.

    Args:
        model: a causal language model.
        inputs: ``input_ids``, ``attention_mask``, ``labels``, each ``[B, T]``.
        seed: of the signs v.
    """
    embedded = model.get_input_embeddings()(inputs["input_ids"])
    generator = torch.Generator().manual_seed(seed)
    sign = (torch.randint(0, 2, embedded.shape, generator=generator) * 2 - 1).to(embedded)
    sign = sign * inputs["attention_mask"][..., None]
    h = STEP * float(embedded.detach().std())
    gradient, loss = _gradient(model, embedded, inputs)
    moved, _ = _gradient(model, embedded + h * sign, inputs)
    return ((moved - gradient) / h).square().sum(dim=(1, 2)).mean(), loss


def _gradient(model: Any, embedded: torch.Tensor, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of each text's mean loss in its embeddings ``[B, T, D]``, and the mean loss of the batch."""
    logits = model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"]).logits
    at, gold, trained = shifted(logits, inputs["labels"])
    told = torch.log_softmax(at.float(), dim=-1).gather(2, gold.clamp(min=0)[..., None])[..., 0]
    loss = -(told * trained).sum(1) / trained.sum(1).clamp(min=1)
    (gradient,) = torch.autograd.grad(loss.sum(), embedded, create_graph=True)
    return gradient, -(told * trained).sum() / trained.sum().clamp(min=1)
