# SPDX-License-Identifier: Apache-2.0
"""The probability that a model writes a given passage, token for token, under a way of drawing tokens: one pass."""

from __future__ import annotations

import torch

from reticent.score.scheme import Scheme


def scheme_logp(logits: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """``[M, V]`` float32, nats: log-probability of each token to be drawn; -inf for tokens that are never drawn.

    Args:
        logits: ``[M, V]``, any floating type.
        scheme: how tokens are drawn.
    """
    if scheme.greedy:
        out = torch.full(logits.shape, -torch.inf, dtype=torch.float32, device=logits.device)
        return out.scatter_(1, first_best(logits)[:, None], 0.0)
    x = logits.float() / scheme.temperature
    if scheme.top_k is not None and scheme.top_k < x.shape[1]:
        least = x.topk(scheme.top_k, dim=1).values[:, -1:]
        x = x.masked_fill(x < least, -torch.inf)
    if scheme.top_p is not None and scheme.top_p < 1:
        x = x.masked_fill(x < _nucleus_edge(x, scheme.top_p), -torch.inf)
    return x.log_softmax(dim=1)


def first_best(logits: torch.Tensor) -> torch.Tensor:
    """``[M]``: the most likely token of each row, of equals the one with the lowest id.

    Logits in bfloat16 often tie, and devices differ in which of equal maxima ``argmax`` gives.
    """
    ids = torch.arange(logits.shape[1], device=logits.device)
    return torch.where(logits == logits.amax(dim=1, keepdim=True), ids, logits.shape[1]).amin(dim=1)


def _nucleus_edge(x: torch.Tensor, top_p: float) -> torch.Tensor:
    """``[M, 1]``: the lowest logit in the nucleus."""
    ordered = x.sort(dim=1, descending=True).values
    share = ordered.double().softmax(dim=1)
    before = share.cumsum(dim=1) - share
    size = (before < top_p).sum(dim=1, keepdim=True).clamp(min=1)
    return ordered.gather(1, size - 1)
