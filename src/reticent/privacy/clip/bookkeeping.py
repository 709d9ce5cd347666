# SPDX-License-Identifier: Apache-2.0
"""Clipped sums from one forward and one backward pass (Bu et al., "Differentially Private Optimization on Large Model
at Small Cost", ICML 2023; here with tied weights, units of several rows, and gradients written out where that is less).

Autograd computes gradients of activations only. Each trained layer writes its input and output gradient into a tape;
norms follow from these, and the clipped sums are made at the end, when every unit's whole norm is known. So no weight
gradient exists that is not clipped, and one that autograd makes behind the tape's back is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from reticent.core.errors import BadInput
from reticent.privacy.clip.clipper import STABILITY, ClippedSum, Clipping
from reticent.privacy.clip.order import run_by_row
from reticent.privacy.clip.rule import LayerRule, own_trained, rule_for
from reticent.privacy.clip.tape import Tape
from reticent.privacy.clip.token_loss import row_losses
from reticent.privacy.clip.virtual_tokens import looked_up_by_row


class BookkeepingClipper:
    """See ``Clipper``.

    Args:
        model: a causal language model with ``requires_grad`` on what is trained.
        clip_norm: C.
        clipping: how the factor follows from the norm.
        autocast: dtype of the activations, or None.
    """

    def __init__(self, model: Any, *, clip_norm: float, clipping: Clipping, autocast: torch.dtype | None) -> None:
        self.model, self.clip_norm, self.clipping, self.autocast = model, clip_norm, clipping, autocast
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.rules = _rules(model)
        self._totals: dict[nn.Parameter, torch.Tensor] = {}
        self._tape: Tape | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """See ``Clipper``."""
        for module, rule in self.rules.items():
            module.__dict__["forward"] = partial(self._forward, module, rule)
        try:
            with looked_up_by_row(self.model):
                yield
        finally:
            for module in self.rules:
                del module.__dict__["forward"]

    @torch.no_grad()
    def accumulate(
        self, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, *, weight: torch.Tensor, rows_per_unit: int = 1
    ) -> ClippedSum:
        """See ``Clipper``."""
        if not len(labels):
            nothing = labels.new_zeros(0, dtype=torch.float32)
            return ClippedSum(norm=nothing, loss=nothing, finite=nothing.bool())
        tape, losses = self.record(inputs, labels, weight=weight, rows_per_unit=rows_per_unit)
        squares = tape.squares()
        if not squares:
            raise BadInput("this model", "used none of its trained parameters", "Check what is trained.")
        uppers = tape.uppers(squares)
        norm, longest = _over_parameters(squares), _over_parameters({p: x.square() for p, x in uppers.items()})
        loss = losses.view(-1, rows_per_unit).sum(1)
        finite = torch.isfinite(longest) & torch.isfinite(loss)
        factors = self._factors(uppers, longest)
        if not bool(finite.all()):
            tape.forget(~finite)
            factors = {p: factor.masked_fill(~finite, 0) for p, factor in factors.items()}
        self.add(tape, factors)
        return ClippedSum(norm=norm.masked_fill(~finite, 0), loss=loss, finite=finite)

    @torch.no_grad()
    def record(
        self, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, *, weight: torch.Tensor, rows_per_unit: int = 1
    ) -> tuple[Tape, torch.Tensor]:
        """One forward and one backward pass: the tape with all contributions to each unit's gradient, nothing clipped,
        and the ``[B]`` weighted losses of the rows. Arguments as in ``accumulate``; ``B`` is at least 1."""
        if len(labels) % rows_per_unit:
            raise BadInput(f"{len(labels)} rows", f"are not units of {rows_per_unit}", "Fill up with rows of weight 0.")
        self._tape = tape = Tape(rows=len(labels), rows_per_unit=rows_per_unit, dtype=self.autocast)
        try:
            losses = self._backward(inputs, labels, weight)
        finally:
            self._tape = None
        self._refuse_leaks()
        return tape, losses

    def add(self, tape: Tape, factors: dict[nn.Parameter, torch.Tensor]) -> None:
        """Add to the sums what is on the ``tape``, times the units' ``factors`` (``[U]`` by parameter)."""
        tape.add_clipped(self._totals, factors)

    def take(self) -> dict[nn.Parameter, torch.Tensor]:
        """See ``Clipper``."""
        totals, self._totals = self._totals, {}
        return {p: totals[p] if p in totals else torch.zeros_like(p, dtype=torch.float32) for p in self.parameters}

    def _backward(self, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            with torch.autocast(labels.device.type, dtype=self.autocast, enabled=self.autocast is not None):
                logits = self.model(**inputs, use_cache=False).logits
            losses = row_losses(logits, labels, weight)
            del logits
            torch.autograd.backward(losses.sum())
        return losses.detach()

    def _forward(self, module: nn.Module, rule: LayerRule, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self._tape is None:
            return type(module).forward(module, *args, **kwargs)
        return run_by_row(rule.forward, module, self._tape, *args, **kwargs)

    def _factors(
        self, uppers: Mapping[nn.Parameter, torch.Tensor], longest: torch.Tensor
    ) -> dict[nn.Parameter, torch.Tensor]:
        if self.clipping == "per_layer":
            share = self.clip_norm / len(self.parameters) ** 0.5
            return {p: (share / upper).clamp(max=1) for p, upper in uppers.items()}
        if self.clipping == "automatic":
            factor = self.clip_norm / (longest + STABILITY)
        else:
            factor = (self.clip_norm / longest).clamp(max=1)
        return dict.fromkeys(uppers, factor)

    def _refuse_leaks(self) -> None:
        leaked = [name for name, p in self.model.named_parameters() if p.requires_grad and p.grad is not None]
        if leaked:
            raise BadInput(
                f"parameter {leaked[0]!r}",
                "got a gradient that was not clipped: the model uses it outside of its layer, or it had one before",
                "Freeze it, or set its .grad to None before.",
            )


def _over_parameters(squares: Mapping[nn.Parameter, torch.Tensor]) -> torch.Tensor:
    """``[U]``: the norm over all parameters, from the squared norm of each."""
    return torch.stack(list(squares.values())).sum(0).sqrt()


def _rules(model: Any) -> dict[nn.Module, LayerRule]:
    """The rule of each module that has trained parameters of its own.

    Raises:
        BadInput: there is none for a module.
    """
    rules, unknown = {}, []
    for name, module in model.named_modules():
        trained = own_trained(module)
        if not trained:
            continue
        rule = rule_for(module)
        if rule is None:
            unknown.append(f"{name} ({type(module).__name__}: {', '.join(trained)})")
        else:
            rules[module] = rule
    if unknown:
        raise BadInput(
            "; ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""),
            "no layer rule knows how to take its per-unit gradients",
            "Freeze it, choose another method, add a rule (privacy/clip/layers/), or take the exact loop, which is "
            'slower (PrivateSpeed(impl="reference"); "auto" does so by itself).',
        )
    return rules
