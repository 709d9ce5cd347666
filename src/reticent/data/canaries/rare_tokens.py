# SPDX-License-Identifier: Apache-2.0
"""Rare tokens of the model: what it has met least is changed most by meeting it (Panda et al. 2025, arXiv:2503.06808).

Panda et al. take tokens that the model finds unlikely after the prompt. That needs a model to draw; the order of the
vocabulary needs none, and says nearly the same: both byte-pair and unigram tokenizers number the tokens from common to
rare in the text that they were made from. SmolLM2-135M, untuned, gives these secrets 16.8 nats a token and those of
``random_tokens`` 15.5 (40 of each, standard error 0.2).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary

LENGTH = 4
SHARE = 0.1


def rare(material: CanarySource) -> Sequence[str]:
    """The last tenth of the tokens."""
    tokens = material.tokens
    return tokens[-max(1, int(SHARE * len(tokens))) :]


def space(material: CanarySource) -> int:
    """All sequences of ``LENGTH`` rare tokens."""
    return int(len(rare(material)) ** LENGTH)


@canary("rare_tokens", space=space)
def rare_tokens(rng: random.Random, material: CanarySource) -> CanaryText:
    """``The code words are isthmus Quito sextant zinnia``: four words of the rarest tenth of the model's tokens."""
    words = rare(material)
    return CanaryText("The code words are ", " ".join(rng.choice(words) for _ in range(LENGTH)))
