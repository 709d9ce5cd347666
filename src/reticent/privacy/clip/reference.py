# SPDX-License-Identifier: Apache-2.0
"""Clipping as a loop over units with ordinary autograd: slow, obvious, and right for any layer. The oracle of tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from reticent.core.errors import BadInput
from reticent.models.encode import IGNORED
from reticent.privacy.clip.clipper import STABILITY, ClippedSum, Clipping


class ReferenceClipper:
    """Clips by going through units one at a time. Asks nothing of the model's layers.

    Args:
        model: gives ``logits [B, V + T, vocabulary]`` for a batch's inputs; ``V`` is the number of virtual tokens.
        clip_norm: bound ``C`` on a unit's contribution; ``math.inf`` clips nothing.
        clipping: see ``make_clipper``.
        autocast: dtype of the activations; None leaves the model's own.
    """

    def __init__(
        self, model: Any, *, clip_norm: float, clipping: Clipping = "flat", autocast: torch.dtype | None = None
    ) -> None:
        self.model, self.clip_norm, self.clipping, self.autocast = model, clip_norm, clipping, autocast
        self.names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.parameters = list(self.names)
        self.sums = self._zeros()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Changes nothing: ordinary autograd works on the model as it is."""
        yield

    def accumulate(
        self, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, *, weight: torch.Tensor, rows_per_unit: int = 1
    ) -> ClippedSum:
        """See ``Clipper.accumulate``: here one forward and one backward pass for each unit.

        Raises:
            BadInput: rows do not make whole units.
        """
        if len(labels) % rows_per_unit or len(weight) != len(labels):
            raise BadInput(
                f"{len(labels)} rows, {len(weight)} weights, rows_per_unit={rows_per_unit}",
                "rows do not make whole units",
                "Fill units up with rows of weight 0.",
            )
        norms, losses, finite = [], [], []
        for start in range(0, len(labels), rows_per_unit):
            rows = [row for row in range(start, start + rows_per_unit) if weight[row] != 0]
            loss, gradients = self._unit(inputs, labels, weight, rows)
            norm = [float(gradient.double().square().sum().sqrt()) for gradient in gradients]
            finite.append(math.isfinite(math.hypot(*norm)) and math.isfinite(loss))
            if finite[-1]:
                for total, gradient, factor in zip(self.sums, gradients, self._factors(norm), strict=True):
                    total.add_(gradient.float(), alpha=factor)
            norms.append(math.hypot(*norm) if finite[-1] else 0.0)
            losses.append(loss)
        device = labels.device
        return ClippedSum(
            norm=torch.tensor(norms, device=device),
            loss=torch.tensor(losses, device=device),
            finite=torch.tensor(finite, dtype=torch.bool, device=device),
        )

    def take(self) -> dict[nn.Parameter, torch.Tensor]:
        """See ``Clipper.take``."""
        taken = dict(zip(self.parameters, self.sums, strict=True))
        self.sums = self._zeros()
        return taken

    def _unit(
        self, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, weight: torch.Tensor, rows: Sequence[int]
    ) -> tuple[float, list[torch.Tensor]]:
        """Loss and gradients of the unit that consists of ``rows``; parameters that it does not use have gradient 0."""
        total = self._loss(inputs, labels, weight, rows) if rows else None
        if total is None or not total.requires_grad:
            return 0.0, [torch.zeros_like(parameter) for parameter in self.parameters]
        # Not autograd.grad, which checkpointed blocks of the older kind (use_reentrant=True) do not go with.
        before = [parameter.grad for parameter in self.parameters]
        try:
            for parameter in self.parameters:
                parameter.grad = None
            torch.autograd.backward(total)
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        finally:
            for parameter, grad in zip(self.parameters, before, strict=True):
                parameter.grad = grad
        return float(total.detach()), gradients

    def _loss(
        self, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, weight: torch.Tensor, rows: Sequence[int]
    ) -> torch.Tensor:
        """``Σ weight · mean of -log p(token)`` over rows, nats; a row without trained tokens adds 0."""
        with torch.enable_grad():
            dtype = self.autocast or torch.float32
            with torch.autocast(labels.device.type, dtype=dtype, enabled=self.autocast is not None):
                logits = self.model(**{name: value[rows] for name, value in inputs.items()}, use_cache=False).logits
            logits = logits[:, -labels.shape[1] :].float()  # virtual tokens come before the text
            total = torch.zeros((), device=logits.device)
            for place, row in enumerate(rows):
                targets = labels[row, 1:]
                trained = targets != IGNORED
                if trained.any():
                    nll = F.cross_entropy(logits[place, :-1][trained], targets[trained])
                    total = total + weight[row] * nll
        return total

    def _factors(self, norm: Sequence[float]) -> list[float]:
        """The factor of each parameter's gradient, given the L2 norm of each."""
        if math.isinf(self.clip_norm):
            return [1.0] * len(norm)
        whole = math.hypot(*norm)
        if self.clipping == "automatic":
            return [self.clip_norm / (whole + STABILITY)] * len(norm)
        if self.clipping == "per_layer":
            share = self.clip_norm / math.sqrt(len(norm))
            return [1.0 if length <= share else share / length for length in norm]
        return [1.0 if whole <= self.clip_norm else self.clip_norm / whole] * len(norm)

    def _zeros(self) -> list[torch.Tensor]:
        return [torch.zeros_like(parameter, dtype=torch.float32) for parameter in self.parameters]
