# SPDX-License-Identifier: Apache-2.0
"""PrefixDecoder: many prompts that begin alike share one reading of their beginning, at a width that is fixed.

The words before all references are read once, and their keys and values stand before each row. What follows is padded
on the left to a public width, so that the length of one reference decides nothing about how others are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.core.errors import BadInput
from reticent.models.context import positions_of, text_config
from reticent.score.forward import device_of
from reticent.score.generation.generate import CachedDecoder, Decoder, RecomputingDecoder, open_decoder

Array = npt.NDArray[Any]
NEAR, NEAR_HALF = 1e-3, 0.1
"""How far apart logits may be for rounding, relatively; the second in 16 bits."""


@dataclass(kw_only=True, eq=False)
class PrefixDecoder(CachedDecoder):
    """Keys and values of what was read are kept, and those of the shared beginning are made once.

    Args:
        shared: ``[P]`` token ids that every prompt begins with, at least one.
        width: to which the rest of each prompt is padded.
    """

    pads: bool = True
    shared: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    width: int = 1

    def read(self, prefixes: Sequence[Array]) -> torch.Tensor:
        device, start = device_of(self.model), len(self.shared)
        token_id = torch.zeros(len(prefixes), self.width, dtype=torch.long)
        behind = torch.zeros_like(token_id)
        for line, prefix in enumerate(prefixes):
            rest = torch.as_tensor(np.asarray(prefix[start:], dtype=np.int64))
            token_id[line, self.width - len(rest) :] = rest
            behind[line, self.width - len(rest) :] = 1
        self.past = None
        self.mask = torch.ones(1, start, dtype=torch.long, device=device)
        self._step(self.model, torch.as_tensor(self.shared, dtype=torch.long, device=device)[None])
        self.narrow(torch.zeros(len(prefixes), dtype=torch.long, device=device))
        assert self.mask is not None
        self.mask = torch.cat([self.mask, behind.to(device)], dim=1)
        return self._step(self.model, token_id.to(device))


def open_prompts(model: Any, *, shared: Array, width: int, longest: int) -> Decoder:
    """The fastest way to read prompts that begin with ``shared`` and gives this model's own logits.

    Args:
        model: in evaluation mode.
        shared: ``[P]`` token ids; may be none.
        width: of the longest rest.
        longest: tokens of the longest prompt with all that is written behind it.

    Raises:
        BadInput: the model reads short and long texts of these lengths in different ways.
    """
    positions = positions_of(model)
    if positions.regime(1) != positions.regime(longest):
        raise BadInput(
            f"texts of up to {longest} tokens",
            "are read by this model in another way than short ones, so they cannot share a batch",
            "Lower --reference_tokens or --max_new_tokens.",
        )
    plain = open_decoder(model)
    window = getattr(text_config(model), "sliding_window", None)
    if not isinstance(plain, CachedDecoder):
        return plain
    if not plain.pads:
        return RecomputingDecoder(model=model)
    if len(shared) == 0 or (window is not None and window < longest + width):
        return plain
    decoder = PrefixDecoder(model=model, shared=shared, width=width)
    return decoder if _agrees(decoder) else plain


def _agrees(decoder: PrefixDecoder) -> bool:
    """True if two prompts of different lengths get the model's own logits, before and after one more token."""
    vocabulary = int(decoder.model.get_input_embeddings().weight.shape[0])
    device = device_of(decoder.model)
    rests = [np.random.default_rng(size).integers(vocabulary, size=size) for size in {1, decoder.width}]
    texts = [np.concatenate([decoder.shared, rest]) for rest in rests]
    token = torch.zeros(len(texts), dtype=torch.long, device=device)
    with torch.inference_mode():
        truth = [
            decoder.model(input_ids=torch.as_tensor(np.append(text, 0)[None], device=device)).logits[0, -2:]
            for text in texts
        ]
        try:
            first = decoder.read(texts)
            measured = torch.stack([first, decoder.add(token)], dim=1).float()
        except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False
        true = torch.stack(truth).float()
    return bool(((measured - true).norm(dim=2) <= near(truth[0].dtype) * true.norm(dim=2).clamp(min=1e-6)).all())


def near(dtype: torch.dtype) -> float:
    """How far apart, relatively, logits of that type may be for rounding."""
    return NEAR if dtype in (torch.float32, torch.float64) else NEAR_HALF
