# SPDX-License-Identifier: Apache-2.0
"""Tiny language models with random weights, made in milliseconds and without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from reticent.core import validate
from reticent.core.atomic import replacing_folder
from reticent.models.tuning.method import TUNINGS

WIDTH = 32
LAYERS = 2
CONTEXT = 512

_MERGED = ("the", "in", "er", "on", "an", "Ġthe", "Ġa", "Ġto", "Ġof", "Ġand", "Ġorder", "!!")
"""Pieces of more than one byte, so that where a text is cut changes how it is tokenised."""

_SPECIAL = ("<|eos|>", "<|pad|>", "<|bos|>", "<|turn|>", "<|end|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|turn|>' + message['role'] + '\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|turn|>assistant\\n' }}{% endif %}"
)


def tiny_tokenizer(*, chat: bool = True, bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of about 300 entries that can spell every text.

    Args:
        chat: whether it has a chat template.
        bos: whether it puts a beginning-of-text token before every text, as Llama's do.

    Examples:
        >>> tokenizer = tiny_tokenizer()
        >>> tokenizer.decode(tokenizer("any text, 任何")["input_ids"])
        'any text, 任何'
    """
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    for word in _MERGED:
        grown = word[0]
        for letter in word[1:]:
            if (grown, letter) not in merges:
                merges.append((grown, letter))
            grown += letter
            if grown not in pieces:
                pieces.append(grown)
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    core = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(_SPECIAL))
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", core.token_to_id("<|bos|>"))]
        )
    special = {f"{kind}_token": f"<|{kind}|>" for kind in ("eos", "pad", "bos")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=CONTEXT, **special)
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    return tokenizer


def tiny_model(
    arch: Literal["llama", "gpt2"] = "llama", *, tied: bool = True, seed: int = 0, vocab_size: int | None = None
) -> Any:
    """A model of two layers of width 32 with random weights, in evaluation mode, float32.

    Args:
        arch: ``"llama"`` (RMSNorm, grouped queries, no biases) or ``"gpt2"`` (LayerNorm, Conv1D, biases).
        tied: whether the output matrix is the input embedding.
        seed: of the weights; the caller's random state is left as it was.
        vocab_size: rows of the embedding; None for those of ``tiny_tokenizer``.

    Examples:
        >>> tiny_model().num_parameters() < 100_000
        True
    """
    validate.one_of(("llama", "gpt2"), arch=arch)
    shared = _vocabulary(tied, vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if arch == "gpt2":
            return GPT2LMHeadModel(
                GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=CONTEXT, initializer_range=0.1, **shared)
            ).eval()
        return LlamaForCausalLM(
            LlamaConfig(
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                num_hidden_layers=LAYERS,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=CONTEXT,
                initializer_range=0.1,
                **shared,
            )
        ).eval()


_GEMMA_ALTERNATING = {
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention"],
}

_ZOO: dict[str, tuple[Any, bool, dict[str, Any]]] = {
    "gpt2": (GPT2Config, True, {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "llama": (LlamaConfig, True, {}),
    "llama_untied": (LlamaConfig, False, {}),
    "mistral": (MistralConfig, False, {"sliding_window": 4}),
    "qwen2": (Qwen2Config, True, {}),
    "qwen3": (Qwen3Config, True, {"head_dim": 8}),
    "gemma": (GemmaConfig, True, {"head_dim": 8}),
    "gemma2": (
        Gemma2Config,
        True,
        {**_GEMMA_ALTERNATING, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 2.0},
    ),
    "gemma3": (Gemma3TextConfig, True, _GEMMA_ALTERNATING),
}

_SMALL: dict[str, dict[str, Any]] = {
    "adapter": {"reduction_factor": 4},
    "lora": {"r": 4, "alpha": 4},
    "prefix": {"virtual_tokens": 3},
    "prompt": {"virtual_tokens": 3},
}

ZOO: Mapping[str, str] = MappingProxyType(
    {
        "gpt2": "LayerNorm, Conv1D with biases, learned positions, tied",
        "llama": "RMSNorm, 4 queries for 2 keys, no biases, tied",
        "llama_untied": "the same with an output matrix of its own",
        "mistral": "sliding window, untied",
        "qwen2": "biases on queries, keys and values, tied",
        "qwen3": "RMSNorm of each head's queries and keys, tied",
        "gemma": "RMSNorm by 1 + weight, scaled embeddings, tied",
        "gemma2": "norms after each part too, capped logits, tied",
        "gemma3": "norms of heads by 1 + weight, windows in every other block, tied",
    }
)
"""Families of ``tiny_of_family`` and what a per-unit gradient could get wrong in each."""


def tiny_of_family(family: str, *, seed: int = 0, vocab_size: int | None = None) -> Any:
    """A model of two layers of width 32 of one of the families in ``ZOO``, in evaluation mode, float32, no dropout.

    Weights of norms and biases are random too, where a new model has ones and zeros, so that no mistake about them can
    hide.

    Args:
        family: name in ``ZOO``.
        seed: of the weights; the caller's random state is left as it was.
        vocab_size: rows of the embedding; None for those of ``tiny_tokenizer``.
    """
    validate.one_of(ZOO, family=family)
    config, tied, more = _ZOO[family]
    shape: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
    }
    if family == "gpt2":
        shape = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": CONTEXT}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            config(initializer_range=0.1, **shape, **more, **_vocabulary(tied, vocab_size)), dtype=torch.float32
        )
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def tiny_tuned(family: str, method: str, *, seed: int = 0) -> Any:
    """A model of a family in ``ZOO`` made ready by one of ``TUNINGS``, in evaluation mode.

    What is trained is moved off its starting point: LoRA's ``B`` and the like start at zero, where half of all
    gradients are zero too.

    Raises:
        BadInput: the method cannot be used on the family.
    """
    params = _SMALL.get(method, {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TUNINGS.get(method)(tiny_of_family(family, seed=seed), **params)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def save_tiny(path: str | Path, *, chat: bool = True, bos: bool = False, **model: Any) -> Path:
    """Save a tiny model and its tokenizer as a folder that ``models.load`` reads; ``model`` as in ``tiny_model``.

    Examples:
        >>> (save_tiny("tiny") / "model.safetensors").exists()
        True
    """
    with replacing_folder(path, kind="tiny model", private=False) as folder:
        tiny_model(**model).save_pretrained(folder)
        tiny_tokenizer(chat=chat, bos=bos).save_pretrained(folder)
    return Path(path)


def _vocabulary(tied: bool, vocab_size: int | None) -> dict[str, Any]:
    """The settings of a model's configuration about tokens."""
    tokenizer = tiny_tokenizer()
    return {
        "vocab_size": vocab_size or len(tokenizer),
        "tie_word_embeddings": tied,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
