# SPDX-License-Identifier: Apache-2.0
"""Train the shared embedding and output matrix."""

from __future__ import annotations

from typing import Any

from reticent.core.errors import BadInput
from reticent.models.anatomy import is_tied, output_matrix
from reticent.models.tuning.method import tuning


@tuning("head_tied", learning_rate=5e-4, paper="arXiv:2205.12506")
def head_tied(model: Any) -> Any:
    """Train the parameters of the output layer as they are, so that a tied input embedding moves with them.

    This is what "head" tuning of GPT-2 means in Mireshghallah et al. (2022). ``head`` trains the output alone.

    Raises:
        BadInput: the model's output matrix is not tied, so this would be the same as ``head``.
    """
    if not is_tied(model):
        raise BadInput("head_tied", "this model's output matrix is not its embedding", "Use the method 'head'.")
    output_matrix(model).requires_grad_(True)
    return model
