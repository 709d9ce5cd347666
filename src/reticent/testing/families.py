# SPDX-License-Identifier: Apache-2.0
"""Tiny models with random weights of any family of causal language models that transformers can build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 61
CONTEXT = 128
MOST_PARAMETERS = 4_000_000
"""A model with more was not made small: its configuration has sizes under names that are not known here."""

SHAPE: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "intermediate_size": 64,
    "ffn_dim": 64,
    "n_inner": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # images beside the text
    "image_size": 28,
    "patch_size": 14,
    "mm_tokens_per_image": 4,
    # experts
    "num_local_experts": 4,
    "num_experts": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "moe_num_experts": 4,
    "moe_k": 2,
    "decoder_sparse_step": 1,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "num_zero_experts": 0,
    "zero_expert_num": 0,
    # compressed and sparse attention
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "qk_head_dim": 16,
    "v_head_dim": 8,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "index_topk": 16,
    "keep_window_size": 16,
    "sliding_window": 8,
    "attention_chunk_size": 16,
    # linear attention and state spaces
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 2,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
    "mamba_dt_rank": 4,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "state_size": 8,
    "ssm_state_size": 8,
    "chunk_size": 8,
    "time_step_rank": 4,
    "n_groups": 2,
    "use_mamba_kernels": False,
}
"""Sizes by the names that configurations have for them; what a configuration does not know is left out."""

_GPT2 = {"n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
_BART = {"decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "encoder_layers": 2}
_BART |= {"encoder_attention_heads": 4, "encoder_ffn_dim": 64, "is_decoder": True, "is_encoder_decoder": False}
_MAMBA2 = {"num_heads": 4, "head_dim": 16, "expand": 2}
_BERT = {"is_decoder": True}
_DBRX = {
    "attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0},
    "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
}
_LATENT = {"num_key_value_heads": 4}
_HYBRID = {"layer_types": ["linear_attention", "full_attention"]}

OWN: Mapping[str, Mapping[str, Any]] = {
    "axk1": _LATENT,
    "axk2": _LATENT,
    "bailing_hybrid": {**_LATENT, **_HYBRID},
    "bamba": {"attn_layer_indices": [1]},
    "bart": _BART,
    "bert": _BERT,
    "bert-generation": _BERT,
    "big_bird": {**_BERT, "attention_type": "original_full"},
    "bigbird_pegasus": {**_BART, "attention_type": "original_full"},
    "blenderbot": _BART,
    "blenderbot-small": _BART,
    "bloom": {"n_layer": 2, "n_head": 4},
    "camembert": {**_BERT, "pad_token_id": 1},
    "codegen": {**_GPT2, "rotary_dim": 4},
    "cpmant": {"dim_head": 8, "dim_ff": 64, "segment_types": 2},
    "ctrl": {**_GPT2, "dff": 64},
    "data2vec-text": {**_BERT, "pad_token_id": 1},
    "dbrx": {"n_heads": 4, **_DBRX, "n_layers": 2, "max_seq_len": CONTEXT},
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "deepseek_v32": _LATENT,
    "electra": {**_BERT, "embedding_size": 32},
    "ernie": _BERT,
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_expand": 2},
    "falcon_mamba": {"expand": 2, "head_dim": None},
    "glm4_moe_lite": _LATENT,
    "glm_moe_dsa": _LATENT,
    "gpt2": _GPT2,
    "gpt_bigcode": {**_GPT2, "num_key_value_heads": None},
    "gpt_neo": {
        "attention_types": [[["global", "local"], 1]],
        "num_layers": 2,
        "num_heads": 4,
        "window_size": 8,
    },
    "gptj": {**_GPT2, "rotary_dim": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "kimi_linear": {**_LATENT, **_HYBRID},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lfm2": {"full_attn_idxs": [1], "block_multiple_of": 16},
    "longcat_flash": _LATENT,
    "mamba": {"expand": 2},
    "mamba2": _MAMBA2,
    "marian": _BART,
    "mbart": _BART,
    "megatron-bert": _BERT,
    "minicpm3": _LATENT,
    "mpt": {"n_heads": 4, "n_layers": 2, "max_seq_len": CONTEXT},
    "mvp": _BART,
    "openai-gpt": _GPT2,
    "opt": {"word_embed_proj_dim": 32},
    "pegasus": _BART,
    "phi3": {"head_dim": None},
    "plbart": _BART,
    "prophetnet": {"num_decoder_layers": 2, "num_decoder_attention_heads": 4, "decoder_ffn_dim": 64},
    "qwen3_5_moe_text": _HYBRID,
    "qwen3_5_text": _HYBRID,
    "qwen3_next": _HYBRID,
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 8, "block_types": ["recurrent", "attention"]},
    "rembert": {**_BERT, "input_embedding_size": 16, "output_embedding_size": 16},
    "roberta": {**_BERT, "pad_token_id": 1},
    "roberta-prelayernorm": {**_BERT, "pad_token_id": 1},
    "roc_bert": _BERT,
    "roformer": {**_BERT, "embedding_size": 32},
    "rwkv": {"attention_hidden_size": 32, "context_length": CONTEXT},
    "xglm": {"num_layers": 2, "attention_heads": 4},
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "causal": True, "n_words": VOCABULARY},
    "xlm-roberta": {**_BERT, "pad_token_id": 1},
    "xlm-roberta-xl": {**_BERT, "pad_token_id": 1},
    "xlnet": {"n_layer": 2, "n_head": 4, "d_inner": 64, "max_position_embeddings": None},
    "xlstm": {"num_heads": 2, "num_blocks": 2, "embedding_dim": 32, "chunk_size": 16},
    "youtu": _LATENT,
    "zamba": {"layers_block_type": ["mamba", "hybrid"]},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"]},
    "xmod": {**_BERT, "pad_token_id": 1, "languages": ["en"], "default_language": "en"},
}
"""Settings that a family's configuration needs beside ``SHAPE``; None takes a setting of ``SHAPE`` away."""


def causal_families() -> tuple[str, ...]:
    """All families that ``AutoModelForCausalLM`` of the installed transformers knows."""
    return tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


def tiny_family(family: str, *, std: float = 0.15, **settings: Any) -> Any:
    """A tiny model of the family in evaluation mode, float32, without dropout; the caller's random state is kept.

    Args:
        family: as ``config.model_type`` has it, e.g. ``"falcon_h1"``.
        std: spread of all matrices: large enough that positions and company show in the logits.
        settings: of the configuration, before those of this module; None takes one of them away.

    Raises:
        ValueError: the model is not tiny, as its sizes have names that are not known here.
        Exception: whatever transformers raises where it cannot build the model.
    """
    config_of_family = AutoConfig.for_model(family)
    given = {**OWN.get(family, {}), **settings}
    nested = {name: getattr(config_of_family, name, None) for name in getattr(config_of_family, "sub_configs", {})}
    parts = {name: _sizes(part, {}) for name, part in nested.items() if part is not None}
    config = AutoConfig.for_model(family, **{**parts, **_sizes(config_of_family, given)})
    for name, value in vars(config).items():
        if isinstance(value, float) and name.endswith(("dropout", "pdrop", "dropout_prob", "dropout_rate")):
            setattr(config, name, 0.0)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())
    if size > MOST_PARAMETERS:
        raise ValueError(f"has {size:,} parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, std)
    return model.eval()


def _sizes(config: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given``, and of ``SHAPE`` what a configuration knows beside it."""
    names = {name: config.attribute_map.get(name, name) for name in SHAPE}
    shape = {name: SHAPE[name] for name, real in names.items() if real in vars(config) and real not in given}
    return {name: value for name, value in {**shape, **given}.items() if value is not None}
