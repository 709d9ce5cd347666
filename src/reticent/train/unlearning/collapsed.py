# SPDX-License-Identifier: Apache-2.0
"""Unlearning by one gradient that is collapsed once: each epoch takes the same step along it, by plain SGD.

See `reticent.train.unlearning.methods.repselect`. The gradient is made from the model before its first step, so a
training that is gone on with makes the same one. It is all that is in memory beside the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from reticent.models.in_memory import evaluating
from reticent.models.mlp_matrices import mlp_matrices
from reticent.models.tuning.method import TUNINGS
from reticent.train.unlearning.forget_row import ForgetRow, collate_rows
from reticent.train.unlearning.method import Unlearner
from reticent.train.unlearning.methods.repselect import collapse, principal_directions
from reticent.train.unlearning.parts import Collapse
from reticent.train.unlearning.retain import retain_nll
from reticent.train.unlearning.rows import Rows
from reticent.train.unlearning.unlearn_trainer import UnlearnTrainer

RANK, ALPHA = 8, 8.0
"""Of the adapter that is trained beforehand, as the authors' library has it by default."""
ARGUMENTS: Mapping[str, Any] = {"optim": "sgd", "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
"""Of Hugging Face's Trainer: a step is the learning rate times the gradient, and nothing else."""


class CollapsedTrainer(UnlearnTrainer):
    """One unlearning, each epoch of which is one step. Arguments as those of `UnlearnTrainer`.

    The matrices of the MLPs alone are trained. The loss of an epoch is that of the forget rows before its step.
    """

    def __init__(self, *, model: Any, method: Unlearner, params: Mapping[str, Any], **kwargs: Any) -> None:
        layers = mlp_matrices(model)
        self.matrices = [layer.weight for layer in layers.values()]
        _mark(model, self.matrices)
        super().__init__(model=model, method=method, params=params, **kwargs)
        rows: Sequence[ForgetRow] = self.train_dataset
        size = self.args.train_batch_size
        self.batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        self.train_dataset = [rows]
        self.data_collator = _one_step
        with evaluating(self.model):
            self.gradients = self._collapsed(method.part("collapse", params), list(layers))

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Gives the matrices their gradient; returns the mean loss of the batches."""
        with evaluating(model), torch.no_grad():
            losses = [self.compute_loss(model, batch).detach() for batch in map(self._placed, self.batches)]
        for matrix, gradient in zip(self.matrices, self.gradients, strict=True):
            matrix.grad = gradient
        return torch.stack(losses).mean()

    def _collapsed(self, part: Collapse, names: Sequence[str]) -> list[torch.Tensor]:
        """The sum over batches of the gradient of each matrix, collapsed by its own directions."""
        adapted = self._elicited(names, part.elicit_rate) if part.elicit_rate else None
        _mark(self.model, self.matrices)
        with torch.enable_grad():
            for batch in map(self._placed, self.batches):
                self.compute_loss(self.model, batch).backward()
        if adapted is not None:
            adapted.unload()
        gradients = []
        tokens = sum(row.forget.predicted for batch in self.batches for row in batch)
        for matrix in self.matrices:
            assert matrix.grad is not None
            gradient, matrix.grad = matrix.grad, None
            count = weakened(part.components, gradient.shape, tokens)
            gradients.append(collapse(gradient, principal_directions(gradient, count, seed=self.args.seed)))
        return gradients

    def _elicited(self, names: Sequence[str], rate: float) -> Any:
        """Put an adapter on the matrices that brings out, in one epoch of SGD, what the forget rows taught."""
        adapted = TUNINGS.get("lora")(self.model, r=RANK, alpha=ALPHA, target_modules=list(names))
        trained = [weight for weight in adapted.parameters() if weight.requires_grad]
        for batch in map(self._placed, self.batches):
            with torch.enable_grad(), self.computing():
                loss = retain_nll(self._forget(batch))
            gradients = torch.autograd.grad(loss, trained)
            with torch.no_grad():
                for weight, gradient in zip(trained, gradients, strict=True):
                    weight.sub_(gradient, alpha=rate)
        return adapted

    def _forget(self, batch: dict[str, torch.Tensor]) -> Rows:
        rows = {name: value[: int(batch["count"])] for name, value in batch.items() if value.ndim > 1}
        return self._seen(self.model, rows, frozenset())

    def _placed(self, rows: Sequence[ForgetRow]) -> dict[str, torch.Tensor]:
        return {name: value.to(self.args.device) for name, value in collate_rows(rows, pad=self.pad).items()}


def weakened(components: int, shape: Sequence[int], tokens: int) -> int:
    """How many directions of a gradient are weakened: no more than a quarter of those that it can have.

    A gradient has no more directions than its shorter side, or than tokens that it is summed over. The weakest of those
    that are weakened sets the scale of them all, so were it the last that there is, nothing would be left of the
    gradient. A quarter is the authors' share: 512 of 2,048.

    Args:
        components: wanted.
        shape: of the matrix.
        tokens: trained tokens of all rows.

    >>> weakened(512, (8192, 2048), 10_000), weakened(512, (1536, 576), 160), weakened(512, (2, 2), 1)
    (512, 40, 1)
    """
    return max(1, min(components, min(shape) // 4, tokens // 4))


def _mark(model: torch.nn.Module, matrices: Sequence[torch.nn.Parameter]) -> None:
    """Mark these weights for training, and no others."""
    model.requires_grad_(False)
    for matrix in matrices:
        matrix.requires_grad_(True)


def _one_step(batch: Sequence[Sequence[ForgetRow]]) -> dict[str, torch.Tensor]:
    """All rows are in the trainer's hands already, so a batch only says how many there are."""
    return {"count": torch.tensor(sum(map(len, batch)))}
