# SPDX-License-Identifier: Apache-2.0
"""Means of LoRA factors: how far the mean of A and of B apart is from the mean of their products.

``mean(B) mean(A) = mean(B A) - mean((B_k - mean B)(A_k - mean A))``. With A frozen (FFA-LoRA, Sun et al. 2024) the last
term is zero; stacked factors (FLoRA, Wang et al. 2024) keep the mean of products as it is, and ranks add up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from reticent.federated.update import Update

_A, _B = ".lora_A.", ".lora_B."


def is_first_factor(name: str) -> bool:
    """True of an A: it is what FFA-LoRA freezes.

    >>> is_first_factor("layers.0.q_proj.lora_A.default.weight")
    True
    """
    return _A in name


def freeze_first_factors(model: Any) -> None:
    """Leave every A of LoRA as it was drawn, so that the mean of the B is exact (FFA-LoRA, arXiv:2403.12313)."""
    for name, parameter in model.named_parameters():
        if is_first_factor(name):
            parameter.requires_grad_(False)


def pairs_of(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name of an adapted matrix → names of its A and B.

    >>> pairs_of(["q.lora_A.default.weight", "q.lora_B.default.weight"])
    {'q': ('q.lora_A.default.weight', 'q.lora_B.default.weight')}
    """
    listed = set(names)
    firsts = sorted(name for name in listed if _A in name)
    pairs = {name.split(_A)[0]: (name, name.replace(_A, _B)) for name in firsts}
    return {matrix: pair for matrix, pair in pairs.items() if pair[1] in listed}


class ProductError:
    """The relative error of averaging A and B apart, over a few adapted matrices, while updates stream by.

    Args:
        start: the round's global arrays; clients' factors are these plus their updates.
        most: matrices that are looked at, evenly over the model: each costs a dense sum.

    Examples:
        >>> start = {"q.lora_A.x": torch.tensor([[1.0]]), "q.lora_B.x": torch.tensor([[0.0]])}
        >>> error = ProductError(start)
        >>> error.add({"q.lora_A.x": torch.tensor([[1.0]]), "q.lora_B.x": torch.tensor([[1.0]])})  # 1 · 2
        >>> error.add({"q.lora_A.x": torch.tensor([[0.0]]), "q.lora_B.x": torch.tensor([[3.0]])})  # 3 · 1
        >>> error.relative()  # 2 · 1.5 in place of 2.5
        0.2
    """

    def __init__(self, start: Update, *, most: int = 4) -> None:
        pairs = list(pairs_of(start).values())
        self.pairs = pairs[:: max(1, -(-len(pairs) // most))] if pairs else []
        self.start = {name: start[name].double() for pair in self.pairs for name in pair}
        self.factors = {name: torch.zeros_like(array) for name, array in self.start.items()}
        self.products = [torch.zeros(start[b].shape[0], start[a].shape[1]).double() for a, b in self.pairs]
        self.count = 0

    def add(self, update: Update) -> None:
        """Look at one client's update, which is left as it is."""
        self.count += 1
        for (a, b), product in zip(self.pairs, self.products, strict=True):
            first, second = self.start[a] + update[a], self.start[b] + update[b]
            self.factors[a] += first
            self.factors[b] += second
            product += second @ first

    def relative(self) -> float | None:
        """Frobenius norm of the difference over that of the mean product; None where there is nothing to compare."""
        if not self.count or not self.pairs:
            return None
        difference = size = 0.0
        for (a, b), product in zip(self.pairs, self.products, strict=True):
            exact = product / self.count
            apart = (self.factors[b] / self.count) @ (self.factors[a] / self.count)
            difference += float((apart - exact).square().sum())
            size += float(exact.square().sum())
        return (difference / size) ** 0.5 if size else 0.0
