# SPDX-License-Identifier: Apache-2.0
"""Names of weight matrices: which part of a transformer block one is, and in which layer."""

from __future__ import annotations

import re

KINDS = ("q", "k", "v", "o", "qkv", "mlp", "embedding", "head", "other")
"""Queries, keys, values, output of the attention, the first three as one matrix, MLP, and what is outside of blocks."""
_LEAVES = {
    "q": ("q_proj", "q", "query", "wq"),
    "k": ("k_proj", "k", "key", "wk"),
    "v": ("v_proj", "v", "value", "wv"),
    "o": ("o_proj", "out_proj", "o", "wo"),
    "qkv": ("c_attn", "qkv_proj", "query_key_value", "Wqkv", "qkv", "in_proj"),
    "mlp": (
        *("gate_proj", "up_proj", "down_proj", "gate_up_proj", "c_fc", "fc_in", "fc_out", "fc1", "fc2"),
        *("dense_h_to_4h", "dense_4h_to_h", "w1", "w2", "w3"),
    ),
    "embedding": ("embed_tokens", "wte", "wpe", "embed_in", "word_embeddings", "embeddings"),
    "head": ("lm_head", "embed_out", "output"),
}
_KIND_OF_LEAF = {leaf: kind for kind, leaves in _LEAVES.items() for leaf in leaves}
_SHARED_LEAVES = ("c_proj", "dense")
"""Names that families give to a matrix of their attention and to one of their MLP."""
_LAYER = re.compile(r"(?:^|\.)(\d{1,9})(?=\.)")


def leaf_of(module: str) -> str:
    """The last name in a module's path.

    >>> leaf_of("model.layers.3.self_attn.q_proj")
    'q_proj'
    """
    return module.rsplit(".", 1)[-1]


def kind_of(module: str) -> str:
    """The part of a block that a module is, one of `KINDS`.

    >>> kind_of("model.layers.3.self_attn.q_proj"), kind_of("transformer.h.0.attn.c_proj"), kind_of("h.0.mlp.c_proj")
    ('q', 'o', 'mlp')
    """
    leaf = leaf_of(module)
    if leaf in _SHARED_LEAVES:
        above = module.split(".")[:-1]
        return "o" if any("attn" in part or "attention" in part for part in above) else "mlp"
    return _KIND_OF_LEAF.get(leaf, "other")


def layer_of(module: str) -> int | None:
    """The number of the block that a module is in; None outside of blocks.

    >>> layer_of("model.layers.3.self_attn.q_proj"), layer_of("lm_head")
    (3, None)
    """
    number = _LAYER.search(module)
    return int(number[1]) if number else None
