# SPDX-License-Identifier: Apache-2.0
"""Tiny language models with random weights, made in milliseconds and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from reticent.core import validate
from reticent.core.atomic import replacing

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
    """
    validate.one_of(("llama", "gpt2"), arch=arch)
    tokenizer = tiny_tokenizer()
    shared: dict[str, Any] = {
        "vocab_size": vocab_size or len(tokenizer),
        "tie_word_embeddings": tied,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
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


def save_tiny(path: str | Path, *, chat: bool = True, bos: bool = False, **model: Any) -> Path:
    """Save a tiny model and its tokenizer as a folder that ``models.load`` reads; ``model`` as in ``tiny_model``."""
    with replacing(path) as folder:
        tiny_model(**model).save_pretrained(folder)
        tiny_tokenizer(chat=chat, bos=bos).save_pretrained(folder)
    return Path(path)
