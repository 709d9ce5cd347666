# SPDX-License-Identifier: Apache-2.0
"""Texts that are being written, each with uniforms of its own, and how a token is drawn by one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.context import Positions
from reticent.score.forward import most_read
from reticent.score.generation.sampled_logp import first_best, scheme_logp
from reticent.score.generation.scheme import Scheme

Array = npt.NDArray[Any]
Prefixes = Sequence[Sequence[int] | npt.NDArray[np.int32]]


def uniforms(seed: int, name: str, sample: int, count: int) -> npt.NDArray[np.float64]:
    """``[count]`` in [0, 1): what the tokens of one sample are drawn by; the same on every machine."""
    digest = hashlib.sha256(f"{seed}\0{name}\0{sample}".encode("utf-8", "surrogatepass")).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little"))).random(count)


@dataclass(kw_only=True, eq=False)
class Line:
    """One text that is being written."""

    row: int
    sample: int
    name: str
    prefix: npt.NDArray[np.int64]
    limit: int
    chance: npt.NDArray[np.float64]
    token_id: list[int] = field(default_factory=list)
    logp: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def length(self) -> int:
        """Tokens when it is as long as it may get."""
        return len(self.prefix) + self.limit

    def regime(self, positions: Positions) -> int | None:
        """In which way the model reads it from its first to its last token; None if that changes on the way."""
        first, last = positions.regime(len(self.prefix)), positions.regime(self.length - 1)
        return first if first == last else None


def make_lines(
    model: Any,
    prefixes: Prefixes,
    max_new_tokens: int | Sequence[int],
    samples: int,
    scheme: Scheme,
    seed: int,
    keys: Sequence[str] | None,
) -> list[Line]:
    validate.positive(samples=samples)
    if scheme.greedy and samples > 1:
        raise BadInput(f"samples={samples}", "are all the same with the greedy scheme", "Give a temperature.")
    limits = [max_new_tokens] * len(prefixes) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    names = [str(i) for i in range(len(prefixes))] if keys is None else list(keys)
    if not len(limits) == len(names) == len(prefixes):
        raise ValueError("max_new_tokens and keys need one entry for each prefix")
    most = most_read(model)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    lines = []
    for row, (prefix, limit, name) in enumerate(zip(prefixes, limits, names, strict=True)):
        validate.positive(max_new_tokens=limit)
        ids = np.asarray(prefix, dtype=np.int64)
        if not ids.size or (most is not None and ids.size + limit > most):
            too_long = (
                f"and {limit} new tokens are more than the {most} tokens that the model reads" if ids.size else ""
            )
            raise BadInput(
                f"prefix {row} of {ids.size} tokens", too_long or "is empty", "Cut it, or begin with a start token."
            )
        if ids.min() < 0 or ids.max() >= vocabulary:
            raise BadInput(f"prefix {row}", f"has a token beyond the {vocabulary:,} of the model", "Use its tokenizer.")
        for sample in range(samples):
            chance = np.zeros(limit) if scheme.greedy else uniforms(seed, name, sample, limit)
            lines.append(Line(row=row, sample=sample, name=name, prefix=ids, limit=limit, chance=chance))
    return lines


def draw(logits: torch.Tensor, scheme: Scheme, chance: Array) -> torch.Tensor:
    """``[B]``: the token at which the cumulative probability exceeds ``chance`` ``[B]``."""
    if not bool(torch.isfinite(logits.float().amax(dim=1)).all()) or bool(torch.isnan(logits).any()):
        raise BadInput("the model", "gives logits that are not numbers", "Load it in float32 (--dtype float32).")
    if scheme.greedy:
        return first_best(logits)
    rising = scheme_logp(logits, scheme).double().exp().cumsum(dim=1)
    total = rising[:, -1:]
    wanted = torch.as_tensor(chance, dtype=torch.float64, device=logits.device)[:, None] * total
    drawn = torch.searchsorted(rising, wanted, right=True)
    last = torch.searchsorted(rising, total.contiguous(), right=False)  # the last token that can be drawn at all
    return torch.minimum(drawn, last)[:, 0]
