# SPDX-License-Identifier: Apache-2.0
"""Scheme: how a next token is drawn from a model. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from reticent.core import validate


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Temperature, then top-k, then top-p, then what is left is made to sum to 1: the order of Hugging Face.

    Args:
        temperature: logits are divided by it; 0 takes the most likely token (of equals the one with the lowest id).
        top_k: keep tokens that fewer than ``top_k`` others are strictly more likely than; None keeps all.
        top_p: keep tokens for which all strictly more likely ones together have less than ``top_p``; None keeps all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        validate.non_negative(temperature=self.temperature)
        if self.top_k is not None:
            validate.positive(top_k=self.top_k)
        if self.top_p is not None:
            validate.in_range(0, 1, top_p=self.top_p)

    @property
    def greedy(self) -> bool:
        """True if nothing is left to chance."""
        return self.temperature == 0

    @property
    def key(self) -> list[float | int | None]:
        """Its part of cache keys."""
        return [self.temperature, self.top_k, self.top_p]

    def __str__(self) -> str:
        if self.greedy:
            return "greedy"
        parts = [f"temperature {self.temperature:g}"]
        parts += [f"top-k {self.top_k}"] if self.top_k is not None else []
        parts += [f"top-p {self.top_p:g}"] if self.top_p is not None else []
        return ", ".join(parts)


GREEDY = Scheme(temperature=0.0)
"""Always the most likely token."""
