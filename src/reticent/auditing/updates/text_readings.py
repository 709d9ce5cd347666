# SPDX-License-Identifier: Apache-2.0
"""How a model of a round reads texts: their losses, and whether it would write their second halves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from reticent.models.encode import EncodedRecord
from reticent.score.forward import device_of
from reticent.train.batches import IGNORED, collate, read_alike

Floats = npt.NDArray[np.float64]
TRIES = 100
"""Sampled texts after which an (n, p) extraction counts, at p = 1/2."""
_BATCH = 8
_LEAST = 4
"""Tokens of a second half, at fewest, that count as written."""


class TextReadings(NamedTuple):
    """``loss`` ``[N]`` nats a token; of each text's second half, given the first: ``greedy`` ``[N]`` 1 where each
    token is the likeliest, so that greedy writing gives it word for word, and ``sampled`` ``[N]`` 1 where `TRIES`
    sampled texts give it at least once with probability 1/2. 0 for halves of fewer than four tokens."""

    loss: Floats
    greedy: Floats
    sampled: Floats


@torch.no_grad()
def read_texts_of(model: Any, rows: Sequence[EncodedRecord], *, pad: int) -> TextReadings:
    """Read each text once.

    Args:
        model: in evaluation mode.
        rows: each with a token to predict.
        pad: token id that fills up rows.
    """
    order = sorted(range(len(rows)), key=lambda place: (len(rows[place]), place))
    values = np.zeros((3, len(rows)))
    device, done = device_of(model), 0
    for part in read_alike(model, [rows[place] for place in order], _BATCH):
        inputs = {name: value.to(device) for name, value in collate(part, pad=pad).items()}
        labels = inputs.pop("labels")[:, 1:]
        logits = model(**inputs, use_cache=False).logits[:, -labels.shape[1] - 1 : -1]
        for line in range(len(part)):
            wanted = labels[line] != IGNORED
            values[:, order[done + line]] = _read(logits[line][wanted].float(), labels[line][wanted])
        done += len(part)
    return TextReadings(*values)


def _read(logits: torch.Tensor, token: torch.Tensor) -> tuple[float, float, float]:
    """Of one text: its loss, and whether its second half comes out greedily and by sampling."""
    logp = logits.log_softmax(-1).gather(1, token[:, None])[:, 0]
    half = len(token) // 2
    if half < _LEAST:
        return float(-logp.mean()), 0.0, 0.0
    greedy = bool((logits[-half:].argmax(-1) == token[-half:]).all())
    once = min(float(logp[-half:].double().sum().exp()), 1.0)
    return float(-logp.mean()), float(greedy), float(1 - (1 - once) ** TRIES >= 0.5)
