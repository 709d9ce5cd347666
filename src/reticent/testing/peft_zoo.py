# SPDX-License-Identifier: Apache-2.0
"""PEFT adapters of many configurations on a tiny base: what an audit may be given as a target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from reticent.testing.tiny import tiny_tokenizer

_ALL = "all-linear"
_SOME = ["q_proj", "v_proj"]
_TOKENS = len(tiny_tokenizer())


def _lora(**how: Any) -> tuple[type, dict[str, Any]]:
    return peft.LoraConfig, {"r": 4, "lora_alpha": 8, "target_modules": _ALL} | how


CONFIGS: Mapping[str, tuple[type, dict[str, Any]]] = MappingProxyType(
    {
        "lora": _lora(),
        "lora_some": _lora(target_modules=_SOME),
        "lora_gaussian": _lora(init_lora_weights="gaussian"),
        "lora_orthogonal": _lora(init_lora_weights="orthogonal"),
        "lora_rslora": _lora(use_rslora=True),
        "lora_dora": _lora(use_dora=True),
        "lora_dora_head": _lora(use_dora=True, use_rslora=True, modules_to_save=["lm_head"]),
        "lora_saved_modules": _lora(modules_to_save=["embed_tokens", "lm_head"]),
        "lora_saved_norms": _lora(modules_to_save=["input_layernorm"]),
        "lora_embeddings": _lora(target_modules=["embed_tokens", "q_proj"]),
        "lora_head": _lora(target_modules=["lm_head", "q_proj"]),
        "lora_tokens": _lora(trainable_token_indices=[5, 6]),
        "lora_ranks": _lora(rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 4}),
        "lora_layers": _lora(target_modules=_SOME, layers_to_transform=[1]),
        "lora_excluded": _lora(exclude_modules=["down_proj"]),
        "lora_own_bias": _lora(lora_bias=True),
        "lora_parameters": _lora(target_modules=[], target_parameters=["mlp.gate_proj.weight"]),
        "lora_bias_all": _lora(bias="all"),
        "lora_bias_lora_only": _lora(bias="lora_only"),
        "lora_pissa": _lora(init_lora_weights="pissa"),
        "lora_pissa_fast": _lora(init_lora_weights="pissa_niter_4"),
        "lora_olora": _lora(init_lora_weights="olora"),
        "lora_replication": _lora(target_modules=_SOME, layer_replication=[[0, 2], [1, 2]]),
        "dora_bias_all": _lora(use_dora=True, bias="all"),
        "adalora": (peft.AdaLoraConfig, {"init_r": 4, "target_r": 2, "total_step": 10, "target_modules": _SOME}),
        "ia3": (
            peft.IA3Config,
            {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
        ),
        "loha": (peft.LoHaConfig, {"r": 2, "target_modules": _SOME}),
        "lokr": (peft.LoKrConfig, {"r": 2, "target_modules": _SOME}),
        "oft": (peft.OFTConfig, {"oft_block_size": 4, "target_modules": _SOME}),
        "oft_bias": (peft.OFTConfig, {"oft_block_size": 4, "target_modules": _SOME, "bias": "all"}),
        "boft": (peft.BOFTConfig, {"boft_block_size": 4, "target_modules": _SOME}),
        "vera": (peft.VeraConfig, {"r": 4, "target_modules": ["q_proj"]}),
        "fourierft": (peft.FourierFTConfig, {"n_frequency": 8, "target_modules": _SOME}),
        "hra": (peft.HRAConfig, {"r": 2, "target_modules": _SOME}),
        "ln_tuning": (peft.LNTuningConfig, {"target_modules": ["input_layernorm"]}),
        "vblora": (
            peft.VBLoRAConfig,
            {"r": 2, "num_vectors": 8, "vector_length": 4, "topk": 2, "target_modules": ["q_proj"]},
        ),
        "randlora": (peft.RandLoraConfig, {"r": 4, "target_modules": ["q_proj"]}),
        "road": (peft.RoadConfig, {"group_size": 4, "target_modules": _SOME}),
        "shira": (peft.ShiraConfig, {"r": 2, "target_modules": _SOME}),
        "c3a": (peft.C3AConfig, {"block_size": 4, "target_modules": _SOME}),
        "miss": (peft.MissConfig, {"r": 4, "target_modules": _SOME}),
        "delora": (peft.DeloraConfig, {"r": 2, "target_modules": _SOME}),
        "waveft": (peft.WaveFTConfig, {"n_frequency": 8, "target_modules": _SOME}),
        "gralora": (peft.GraloraConfig, {"r": 4, "target_modules": _SOME}),
        "trainable_tokens": (peft.TrainableTokensConfig, {"token_indices": [5, 6]}),
        "prefix": (peft.PrefixTuningConfig, {"num_virtual_tokens": 3}),
        "prompt": (peft.PromptTuningConfig, {"num_virtual_tokens": 3}),
        "p_tuning": (peft.PromptEncoderConfig, {"num_virtual_tokens": 3, "encoder_hidden_size": 16}),
        "adaption_prompt": (peft.AdaptionPromptConfig, {"adapter_len": 3, "adapter_layers": 1}),
    }
)
"""Name → class of the configuration and its arguments."""


def save_peft_base(folder: Path, *, tied: bool = True, rows: int = _TOKENS) -> Path:
    """A tiny Llama with biases in its attention, and its tokenizer.

    Args:
        folder: where to put them.
        tied: whether the output matrix is the input embedding.
        rows: of the matrix of embeddings.
    """
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=rows,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=256,
                attention_bias=True,
                tie_word_embeddings=tied,
                initializer_range=0.15,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_peft_adapter(
    base: Path, folder: Path, name: str, *, rows: int | None = None, embeddings: bool | str = "auto", **more: Any
) -> Path:
    """An adapter of a configuration in ``CONFIGS`` on ``base``, with every weight that it trains moved.

    Args:
        base: as `save_peft_base` made it.
        folder: where to put it.
        name: of the configuration.
        rows: of the matrix of embeddings while the adapter is made; None for those of the base.
        embeddings: whether it keeps the matrices of the vocabulary in its file, as PEFT has it.
        more: arguments that are given to the configuration instead of those in ``CONFIGS``.
    """
    kind, how = CONFIGS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        if rows is not None:
            model.resize_token_embeddings(rows, mean_resizing=False)
        tuned = peft.get_peft_model(model, kind(**({"task_type": "CAUSAL_LM"} | how | more)))
        with torch.no_grad():
            for parameter in tuned.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    tuned.save_pretrained(folder, save_embedding_layers=embeddings)
    return folder
