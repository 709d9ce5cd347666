# SPDX-License-Identifier: Apache-2.0
"""Relearning: a few steps of training on some texts, and the weights put back afterwards.

A model that only hides what it knows comes back within a few steps; one that never knew has to learn it. So the same
steps are taken by retrained models, and what counts is the gap to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.train.batches import collate, encode_all

BATCH = 8
"""Rows in a step."""


@contextmanager
def weights_put_back(model: Any) -> Iterator[list[torch.nn.Parameter]]:
    """The parameters that are trained: those of the adapter, or all of them. They are put back, to the bit."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in trained]
    try:
        yield trained
    finally:
        with torch.no_grad():
            for parameter, tensor in zip(trained, before, strict=True):
                parameter.copy_(tensor)
                parameter.grad = None


def relearned(
    model: Any,
    tokenizer: Any,
    records: Sequence[Record],
    *,
    steps: Sequence[int],
    rate: float,
    max_tokens: int,
    seed: int = 0,
) -> Iterator[int]:
    """Train the model in place with AdamW, constant rate, no weight decay; stop after each of ``steps``.

    Rows come in a random order that depends on ``seed`` alone, so that all models see the same batches. The loss is the
    mean over the trained tokens of a batch.

    Args:
        model: a causal language model; what requires a gradient is trained.
        tokenizer: that belongs to it.
        records: to train on.
        steps: rising numbers of steps.
        rate: learning rate.
        max_tokens: of each record.
        seed: of the order.

    Yields:
        The number of steps taken, with the model in evaluation mode.

    Raises:
        BadInput: nothing to train on, or the loss is no longer finite.
    """
    rows = encode_all(records, tokenizer, max_tokens).encoded
    if not rows:
        raise BadInput("relearning", "has no row with a token to predict", "Give texts of two tokens or more.")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    device = trained[0].device
    order = _order(len(rows), seed)
    for step in range(1, steps[-1] + 1):
        batch = collate([rows[next(order)] for _ in range(min(BATCH, len(rows)))], pad=pad)
        # in evaluation mode throughout: dropout would tell models apart that only differ in its setting
        loss = model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss
        if not torch.isfinite(loss):
            raise BadInput(f"relearning, step {step}", "has a loss that is not finite", "Give a smaller relearn_rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step in steps:
            yield step


def _order(count: int, seed: int) -> Iterator[int]:
    """Places of rows, every row once before any comes again."""
    rng = np.random.default_rng(seed)
    while True:
        yield from (int(place) for place in rng.permutation(count))
