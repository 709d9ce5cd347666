# SPDX-License-Identifier: Apache-2.0
"""The attention of the body while it scores: on CPUs in bfloat16, the plain one is faster for short texts.

Two matrix products with a softmax in float32 between them, in place of PyTorch's fused kernel. Measured with
SmolLM2-135M on 2 cores of an AMD EPYC with AVX512-BF16: the body takes 3 % to 12 % less time for texts of 64 to 512
tokens, and the mean error of log p against float32 is the same (0.038 nats either way, 10,550 tokens of mails).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from reticent.models.computing_device import computing_device

LONGEST = 512
"""Beyond this many tokens the plain attention's score matrices outgrow the cache, and then the memory."""


def gains_from_plain(model: Any) -> bool:
    """True if plain attention is worth a try: a bfloat16 model on a CPU that uses the fused one."""
    embedding = model.get_input_embeddings()
    fused = getattr(_core(model).config, "_attn_implementation", None) == "sdpa"
    return fused and computing_device(embedding).type == "cpu" and embedding.weight.dtype == torch.bfloat16


@contextmanager
def plain_attention(model: Any) -> Iterator[None]:
    """Within this context the model attends by two matrix products and a softmax."""
    core = _core(model)
    before = core.config._attn_implementation
    core.set_attn_implementation("eager")
    try:
        yield
    finally:
        core.set_attn_implementation(before)


def _core(model: Any) -> Any:
    """The model itself, without what PEFT puts around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
