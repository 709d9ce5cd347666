# SPDX-License-Identifier: Apache-2.0
"""Prefix tuning."""

from __future__ import annotations

from typing import Any

from peft import PrefixTuningConfig, get_peft_model

from reticent.core import validate
from reticent.models.tuning.method import tuning


@tuning("prefix", learning_rate=1e-2, storage="peft", paper="arXiv:2101.00190")
def prefix(model: Any, *, virtual_tokens: int = 20) -> Any:
    """Train keys and values of virtual tokens that precede every text, in each block.

    Trained directly, without the paper's reparametrisation by an MLP, which is dropped after training anyway.

    Args:
        model: what to tune.
        virtual_tokens: length of the prefix.
    """
    validate.positive(virtual_tokens=virtual_tokens)
    return get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual_tokens))
