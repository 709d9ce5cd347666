# SPDX-License-Identifier: Apache-2.0
"""CE-U, cross-entropy unlearning (Yang, 2025): the model is taught its own prediction of the moment without the true
token. Its gradient at the logits is bounded, as it is a difference of two distributions."""

from __future__ import annotations

from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.ranges import Index
from reticent.train.unlearning.rows import Rows


def _answer(forget: Rows, *, ignored: int = 1) -> Rows:
    """Without the first ``ignored`` trained tokens of each row."""
    return forget.narrow(forget.trained.cumsum(1) > ignored)


def answer_tokens(forget: Rows, *, ignored: int = 1) -> int:
    """The number of trained tokens without the first ``ignored`` of each row."""
    return int(_answer(forget, ignored=ignored).tokens.sum().item())


@unlearner(
    "ce_u",
    counted=answer_tokens,
    learning_rate=1e-5,
    epochs=10,
    paper="arXiv:2503.01224",
)
def ce_u(forget: Rows, *, ignored: Index = 1) -> Tensor:
    """Teaches the model its own prediction of the moment with the true token taken out.

    Loss: ``mean over tokens of H(q, p)`` with ``q = softmax(z, z_y = -∞)`` without a gradient. The gradient at a
    token's logits is ``p - q``.

    Unit: nats a token. Direction: falls. Source: Yang, with the footnote to its training settings: the first
    answer token is not unlearned, as it says whether there is an answer at all. No retain term. A row of so few tokens
    takes no part.

    Args:
        forget: rows.
        ignored: answer tokens at each row's beginning that are left alone.

    Examples:
        >>> import torch
        >>> rows = Rows(
        ...     logits=torch.tensor([[[2.0, 1.0, 0.0, -1.0]]]), gold=torch.zeros(1, 1, dtype=torch.int64),
        ...     trained=torch.ones(1, 1, dtype=torch.bool),
        ... )
        >>> round(ce_u(rows, ignored=0).item(), 5), ce_u(rows).item()
        (1.86498, 0.0)
    """
    rows = _answer(forget, ignored=ignored)
    return rows.mean_over_tokens(rows.token_values(_of_tokens))


def _of_tokens(logits: Tensor, gold: Tensor) -> Tensor:
    others = logits.detach().scatter(1, gold[:, None], float("-inf"))
    return logits.logsumexp(1) - (others.softmax(1) * logits).sum(1)
