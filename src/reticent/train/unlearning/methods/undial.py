# SPDX-License-Identifier: Apache-2.0
"""UNDIAL (Dong et al., "Self-Distillation with Adjusted Logits", NAACL 2025): the model is taught by its own
predictions from before, with the true token's logit lowered."""

from __future__ import annotations

from torch import Tensor

from reticent.train.unlearning.method import unlearner
from reticent.train.unlearning.ranges import Positive
from reticent.train.unlearning.rows import Rows


@unlearner(
    "undial",
    needs={"reference_logits"},
    retain="nll",
    retain_weight=0.0,
    learning_rate=1e-4,
    epochs=10,
    paper="arXiv:2402.10052",
)
def undial(forget: Rows, *, beta: Positive = 10.0) -> Tensor:
    """Teaches the model its own earlier predictions without the true token.

    Loss: ``mean over tokens of H(softmax(z_ref - β · 1[v = y]), p)``, a cross-entropy.

    Unit: nats a token. Direction: falls. Source: Dong et al.; β, α = 0 (no retain term unless it is given a
    weight) and the learning rate as in open-unlearning. The paper trains LoRA (rank 8, α 16).

    The authors' code has no mask: prompt and padding count in its mean, and the label -100 lowers the logit of item
    V - 100 of the vocabulary. Here answer tokens count only.

    Args:
        forget: rows with ``reference_logits``.
        beta: how far the true token's logit is lowered; 3, 10 and 30 are usual.

    Examples:
        >>> import torch
        >>> logits = torch.tensor([[[2.0, 1.0, 0.0, -1.0]]])
        >>> rows = Rows(
        ...     logits=logits, gold=torch.zeros(1, 1, dtype=torch.int64), trained=torch.ones(1, 1, dtype=torch.bool),
        ...     reference_logits=logits,
        ... )
        >>> round(undial(rows).item(), 5)
        1.86486
    """
    assert forget.reference_logits is not None

    def of_tokens(logits: Tensor, gold: Tensor, reference: Tensor) -> Tensor:
        lowered = reference.scatter_add(1, gold[:, None], reference.new_full((len(gold), 1), -beta))
        return logits.logsumexp(1) - (lowered.softmax(1) * logits).sum(1)

    return forget.mean_over_tokens(forget.token_values(of_tokens, forget.reference_logits))
