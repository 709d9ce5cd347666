# SPDX-License-Identifier: Apache-2.0
"""Prefix tuning."""

from __future__ import annotations

from typing import Any

import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from reticent.core import validate
from reticent.models.locate import first_line
from reticent.models.try_out import FAILURES, does_not_fit, family
from reticent.models.tuning.method import tuning

_SHAPED_BY_PEFT = ("gemma4",)
"""Families whose layers have keys of several shapes, each of which PEFT serves."""


@tuning("prefix", learning_rate=1e-2, storage="peft", paper="arXiv:2101.00190")
def prefix(model: Any, *, virtual_tokens: int = 20) -> Any:
    """Train keys and values of virtual tokens that precede every text, in each block.

    Trained directly, without the paper's reparametrisation by an MLP, which is dropped after training anyway.

    Args:
        model: what to tune.
        virtual_tokens: length of the prefix.

    Raises:
        BadInput: not every layer keeps keys and values of one shape (state-space, convolutional and hybrid models,
            compressed attention).
    """
    validate.positive(virtual_tokens=virtual_tokens)
    shape = _keys_and_values(model)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual_tokens, **shape)
    try:
        tuned = get_peft_model(model, config)
    except FAILURES as error:
        raise does_not_fit(model, "prefix", f"{type(error).__name__}: {first_line(error)}") from error
    settings = tuned.peft_config["default"]
    if any(getattr(settings, name) != value for name, value in shape.items()):
        raise does_not_fit(model, "prefix", "its keys are of another shape than PEFT gives them")
    return tuned


def _keys_and_values(model: Any) -> dict[str, int]:
    """PEFT's settings for the shape of a token's keys and values, as the model itself makes them; empty where PEFT
    finds it out."""
    words = model.get_input_embeddings().weight
    if words.is_meta or family(model).startswith(_SHAPED_BY_PEFT):
        return {}
    try:
        with torch.no_grad():
            out = model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=words.device), use_cache=True)
    except FAILURES as error:
        raise does_not_fit(model, "prefix", f"{type(error).__name__}: {first_line(error)}") from error
    cache = getattr(out, "past_key_values", None)
    layers = getattr(getattr(cache, "self_attention_cache", cache), "layers", None)
    if not layers:
        raise does_not_fit(model, "prefix", "it keeps no keys and values")
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        raise does_not_fit(model, "prefix", "some of its layers keep something else than keys and values")
    tensors = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
    if any(tensor is None or tensor.dim() != 4 for tensor in tensors):
        raise does_not_fit(model, "prefix", "some of its layers keep no keys and values of their own")
    shapes = {(tensor.shape[1], tensor.shape[3]) for tensor in tensors}
    if len(shapes) > 1:
        raise does_not_fit(model, "prefix", "keys and values of its layers have different shapes")
    heads, width = shapes.pop()
    return {"num_layers": len(layers), "num_attention_heads": heads, "token_dim": heads * width}
