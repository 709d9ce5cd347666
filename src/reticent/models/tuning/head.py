# SPDX-License-Identifier: Apache-2.0
"""Train an output matrix of its own."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from reticent.models.anatomy import is_tied, output_matrix
from reticent.models.tuning.method import tuning


@tuning("head", learning_rate=5e-4, paper="arXiv:2205.12506")
def head(model: Any) -> Any:
    """Train the output matrix only, untied from the input embedding.

    Where the two are one matrix, the output gets a copy of its own and the embedding stays as it was. The saved
    model then says ``tie_word_embeddings = false`` and is larger by that matrix. The paper's own runs moved the
    shared matrix: that is ``head_tied``.
    """
    layer = output_matrix(model)
    if is_tied(model):
        layer.weight = nn.Parameter(cast(nn.Parameter, layer.weight).detach().clone())
        model.config.tie_word_embeddings = False
    layer.requires_grad_(True)
    return model
