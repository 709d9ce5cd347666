# SPDX-License-Identifier: Apache-2.0
"""Embeddings of texts: the mean of the model's own last hidden states. Each text is read alone, so that no text can
change the last digits of another's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reticent.core.errors import BadInput
from reticent.models.output_layer import hidden_states
from reticent.score.forward import device_of


def embedded(model: Any, texts: Sequence[Sequence[int]], *, blank: int) -> npt.NDArray[np.float64]:
    """``[N, D]``: one embedding for each text.

    Args:
        model: a causal language model in evaluation mode.
        texts: token ids.
        blank: the token that stands for a text of none.

    Raises:
        BadInput: the model has no output layer to read hidden states before, or gives what are no numbers.
    """
    layer = model.get_output_embeddings()
    if layer is None:
        raise BadInput("the model", "has no output layer, so its last hidden states cannot be read", "Take another.")
    device, rows = device_of(model), []
    with torch.inference_mode():
        for text in texts:
            token_id = torch.tensor([list(text) or [blank]], dtype=torch.long, device=device)
            rows.append(hidden_states(model, layer, token_id)[0].double().mean(dim=0).cpu().numpy())
    out = np.stack(rows)
    if not np.isfinite(out).all():
        raise BadInput("the model", "gives hidden states that are not numbers", "Load it in float32 (--dtype float32).")
    return out
