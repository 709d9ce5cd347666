# SPDX-License-Identifier: Apache-2.0
"""What a kind of canary is: a way to draw a secret, uniformly from a space of stated size."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from reticent.core.record import Record
from reticent.core.registry import Registry

Draw: TypeAlias = Callable[[random.Random, Sequence[Record]], str]
"""``draw(rng, records)``: the text of one secret. ``records`` is the data that it will be planted in, for kinds whose
secrets depend on it."""


@dataclass(frozen=True, kw_only=True)
class CanaryKind:
    """A kind of secret.

    Args:
        name: of the kind.
        space: how many secrets there are, each as likely; log2 of it is the largest exposure there can be, in bits.
        draw: draws one.
        summary: first line of its docstring.
    """

    name: str
    space: int
    draw: Draw
    summary: str


CANARIES: Registry[CanaryKind] = Registry("kind of canary", "reticent.data.canaries")


def canary(name: str, *, space: int) -> Callable[[Draw], Draw]:
    """Register a function that draws secrets as a kind (see `CanaryKind`)."""

    def register(draw: Draw) -> Draw:
        summary = (draw.__doc__ or "").strip().split("\n")[0]
        CANARIES.add(name, CanaryKind(name=name, space=space, draw=draw, summary=summary))
        return draw

    return register
