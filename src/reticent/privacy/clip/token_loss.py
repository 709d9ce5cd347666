# SPDX-License-Identifier: Apache-2.0
"""Each row's mean loss, with the gradient at the logits taken in the same pass."""

from __future__ import annotations

from typing import Any

import torch

from reticent.models.encode import IGNORED

_CHUNK = 2**22
"""Logits that are worked on at once: few enough to stay in cache, many enough to keep threads busy."""


def row_losses(logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``[B]`` float32: ``weight`` times each row's mean negative log-likelihood (nats) over its trained tokens.

    Rows without a trained token have loss 0 and no gradient. No float32 copy of the logits is made.

    Args:
        logits: ``[B, S, V]``, S at least T. Where S is larger the model put virtual tokens in front.
        labels: ``[B, T]``; the logits at one position predict the label at the next.
        weight: ``[B]``.
    """
    aligned = logits[:, logits.shape[1] - labels.shape[1] :]
    result: torch.Tensor = _RowLosses.apply(aligned, labels, weight)  # type: ignore[no-untyped-call]
    return result


class _RowLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        rows, length, vocabulary = logits.shape
        gold = torch.cat([labels[:, 1:], labels.new_full((rows, 1), IGNORED)], dim=1)
        trained = gold != IGNORED
        scale = weight.float() / trained.sum(1).clamp(min=1)
        token_weight = (trained * scale[:, None]).flatten()
        gold = gold.clamp(min=0).flatten()
        flat = logits.reshape(-1, vocabulary)
        gradient = torch.empty_like(flat)
        nll = torch.empty(len(flat), device=logits.device)
        step = max(1, _CHUNK // vocabulary)
        for start in range(0, len(flat), step):
            part = slice(start, start + step)
            index = gold[part, None]
            logp = torch.log_softmax(flat[part].float(), dim=-1)
            nll[part] = -logp.gather(1, index)[:, 0]
            p = logp.exp_()
            p.scatter_add_(1, index, p.new_full((), -1.0).expand(index.shape))
            gradient[part] = p.mul_(token_weight[part, None])
        ctx.save_for_backward(gradient.view(logits.shape))
        return (nll * token_weight).view(rows, length).sum(1)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        (factor,) = outer
        if not bool((factor == 1).all()):
            gradient = gradient * factor[:, None, None].to(gradient.dtype)
        return gradient, None, None
