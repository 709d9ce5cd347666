# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of emulated fine-tuning (arXiv:2310.12962), by token: three predictions become one.

log π = log π_large + β · (log π_tuned − log π_base), up to a constant that makes probabilities sum to 1. Where nothing
needs log-probabilities, differences of logits are the same up to that constant, and no sum over the vocabulary is made.
"""

from __future__ import annotations

import torch

from reticent.models.emulation import EmulationConfig

ABSENT = -1
"""In a map of tokens: the small models have no such token."""


def blend(
    large: torch.Tensor,
    tuned: torch.Tensor,
    base: torch.Tensor,
    settings: EmulationConfig,
    small_id: torch.Tensor | None = None,
) -> torch.Tensor:
    """``[..., V]`` logits of the ensemble, in float32 whatever the models compute in.

    Args:
        large: ``[..., V]`` logits of the large model.
        tuned, base: ``[..., W]`` logits of the small models. Without ``small_id``, ``W ≥ V`` and the first ``V`` count.
        settings: β, cap and filter.
        small_id: ``[V]`` the small models' id of each of the large one's tokens, or ``ABSENT``: such a token keeps the
            large model's log-probability, up to the constant.
    """
    rows = large.shape[-1]
    if settings.plain and small_id is None:
        difference = tuned[..., :rows].float() - base[..., :rows].float()
        return difference.mul_(settings.beta).add_(large.float())
    tuned, base = tuned.float().log_softmax(-1), base.float().log_softmax(-1)
    difference = tuned - base
    if settings.cap is not None:
        difference.clamp_(-settings.cap, settings.cap)
    start = large.float()
    difference = _of_large(difference, small_id, rows, torch.zeros(()))
    if settings.top_p is not None:
        start = start.log_softmax(-1)
        likely = tuned >= _edge(tuned, settings.top_p)
        inside = _of_large(likely, small_id, rows, torch.ones((), dtype=torch.bool))
        start = torch.where(inside, start, _of_large(base, small_id, rows, torch.zeros(())))
    return difference.mul_(settings.beta).add_(start)


def blend_naive(
    large: torch.Tensor,
    tuned: torch.Tensor,
    base: torch.Tensor,
    settings: EmulationConfig,
    small_id: torch.Tensor | None = None,
) -> torch.Tensor:
    """``[V]`` log-probabilities, in float64: the definition token by token, for one position. Arguments as `blend`."""
    log_large, log_tuned, log_base = (logits.double().log_softmax(-1) for logits in (large, tuned, base))
    likely = _nucleus_naive(log_tuned, settings.top_p)
    values = []
    for token in range(len(log_large)):
        small = token if small_id is None else int(small_id[token])
        if small == ABSENT:
            values.append(float(log_large[token]))
            continue
        difference = float(log_tuned[small] - log_base[small])
        if settings.cap is not None:
            difference = max(-settings.cap, min(settings.cap, difference))
        start = float(log_large[token]) if small in likely else float(log_base[small])
        values.append(start + settings.beta * difference)
    return torch.tensor(values, dtype=torch.float64).log_softmax(-1)


def _nucleus_naive(log_p: torch.Tensor, top_p: float | None) -> set[int]:
    """Tokens for which all strictly more likely ones together have less than ``top_p``."""
    p = log_p.exp().tolist()
    if top_p is None:
        return set(range(len(p)))
    return {token for token, mine in enumerate(p) if sum(other for other in p if other > mine) < top_p}


def _edge(log_p: torch.Tensor, top_p: float) -> torch.Tensor:
    """``[..., 1]``: the lowest log-probability in the nucleus."""
    ordered = log_p.sort(dim=-1, descending=True).values
    share = ordered.double().exp()
    size = (share.cumsum(dim=-1) - share < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
    return ordered.gather(-1, size - 1)


def _of_large(values: torch.Tensor, small_id: torch.Tensor | None, rows: int, absent: torch.Tensor) -> torch.Tensor:
    """``[..., V]``: values of the small models' tokens at the large one's; ``absent`` where there is none."""
    if small_id is None:
        return values[..., :rows]
    mapped = values.index_select(-1, small_id.clamp(min=0))
    return torch.where(small_id == ABSENT, absent.to(mapped), mapped)
