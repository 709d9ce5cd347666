# SPDX-License-Identifier: Apache-2.0
"""Random tokens of the model: unlikely text, every secret as unlikely as another."""

from __future__ import annotations

import random

from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary

LENGTH = 4


def space(material: CanarySource) -> int:
    """All sequences of ``LENGTH`` tokens."""
    return int(len(material.tokens) ** LENGTH)


@canary("random_tokens", space=space)
def random_tokens(rng: random.Random, material: CanarySource) -> CanaryText:
    """``The code words are harbour scholar seven drift``: four of the model's tokens that are whole words."""
    return CanaryText("The code words are ", " ".join(rng.choice(material.tokens) for _ in range(LENGTH)))
