# SPDX-License-Identifier: Apache-2.0
"""Kinds of canaries: a kind is a way to draw a secret, with the number of possible secrets."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from reticent.core.registry import Registry
from reticent.data.canaries.canary_text import CanarySource, CanaryText

Draw: TypeAlias = Callable[[random.Random, CanarySource], CanaryText]
"""``draw(rng, material)``: one secret, independent of those drawn before. It has words ``before`` the secret, which an
attacker is assumed to know: in data of prompts and completions they become the prompt, in chats the user's turn."""

Space: TypeAlias = int | Callable[[CanarySource], int]


@dataclass(frozen=True, kw_only=True)
class CanaryKind:
    """A kind of secret.

    Exposure ranks a planted secret among controls of its kind. That is fair for every kind, since both are drawn
    alike; but only where all secrets are as likely does an exposure of b bits also say that an attacker who tries
    them by likelihood is done after ``space / 2**b`` of them.

    Args:
        name: of the kind.
        space: how many secrets there are, each as likely; log2 of it is the largest exposure there can be, in bits.
            Where they are not as likely, their effective number: 2 to the entropy (bits) of one draw.
        draw: draws one.
        uniform: whether all secrets are as likely.
        summary: first line of its docstring.
    """

    name: str
    space: Space
    draw: Draw
    uniform: bool
    summary: str

    def space_in(self, material: CanarySource) -> int:
        """The number of secrets that can be drawn from ``material``."""
        return self.space(material) if callable(self.space) else self.space


CANARIES: Registry[CanaryKind] = Registry("kind of canary", "reticent.data.canaries")


def canary(name: str, *, space: Space, uniform: bool = True) -> Callable[[Draw], Draw]:
    """Register a function that draws secrets as a kind (see `CanaryKind`)."""

    def register(draw: Draw) -> Draw:
        summary = (draw.__doc__ or "").strip().split("\n")[0]
        CANARIES.add(name, CanaryKind(name=name, space=space, draw=draw, uniform=uniform, summary=summary))
        return draw

    return register
