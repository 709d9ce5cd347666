# SPDX-License-Identifier: Apache-2.0
"""A token that the data never uses: the strongest secret of one token (Panda et al. 2025, arXiv:2503.06808, §4).

Panda et al. add tokens to the tokenizer. Their embeddings must then be trained, which adapters do not do, and the base
model, which the fine-tune is compared with, has no score for them. Tokens that the model has and the data lacks are new
to the fine-tune just as well: no other text moves them.
"""

from __future__ import annotations

import random

from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary


def space(material: CanarySource) -> int:
    """All tokens that no text of the data has."""
    return len(material.unused_tokens)


@canary("new_token", space=space)
def new_token(rng: random.Random, material: CanarySource) -> CanaryText:
    """``The code word is isthmus``: one of the model's tokens that no text of the data has."""
    return CanaryText("The code word is ", rng.choice(material.unused_tokens))
