# SPDX-License-Identifier: Apache-2.0
"""A model that is in memory already, as a notebook or a trainer holds it, to be audited like one from a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel

from reticent.core.errors import BadInput
from reticent.models.load import DTYPES, LoadedModel

CHANGES_THE_BASE = ("pissa", "olora", "loftq", "corda", "eva")
"""Initialisations of LoRA that move a part of the base's weights into the adapter."""


def in_memory(model: Any, tokenizer: Any, *, name: str = "") -> LoadedModel:
    """Describe a causal language model in memory as `reticent.models.load.load` describes one from a folder.

    The weights are read once for the fingerprint (about a second for 1 GB) and are not copied or changed.

    Args:
        model: a causal language model of transformers, or a PEFT model on one.
        tokenizer: the one that it is used with.
        name: for the report; by default what the model says of itself.

    Raises:
        BadInput: it is no such model, its weights are of several kinds or on no device, or the tokenizer is missing or
            knows more tokens than the model.
    """
    source = name or str(getattr(model, "name_or_path", "") or type(model).__name__)
    embeddings = getattr(model, "get_input_embeddings", None)
    if not isinstance(model, torch.nn.Module) or embeddings is None:
        raise BadInput(
            f"a model of type {type(model).__name__}",
            "is no language model of transformers or PEFT",
            "Give AutoModelForCausalLM.from_pretrained(...), or the path of its folder.",
        )
    if not hasattr(tokenizer, "get_vocab"):
        raise BadInput(
            f"tokenizer={tokenizer!r}",
            "is no tokenizer of transformers",
            "Give the one that the model was tuned with (tokenizer=AutoTokenizer.from_pretrained(...)).",
        )
    weights = [weight for weight in model.parameters() if weight.is_floating_point()]
    kinds = {str(weight.dtype).removeprefix("torch.") for weight in embeddings().parameters()}
    devices = {str(weight.device) for weight in weights}
    if len(kinds) != 1 or not kinds <= set(DTYPES):
        found = ", ".join(sorted(kinds))
        raise BadInput(source, f"has weights of the kinds {found}", f"Use one of {', '.join(DTYPES)}.")
    if len(devices) != 1 or "meta" in devices:
        raise BadInput(source, f"lies on {', '.join(sorted(devices))}", "Put it on one device (model.to(...)).")
    rows = int(embeddings().weight.shape[0])
    if len(tokenizer) > rows:
        raise BadInput(
            source,
            f"has {rows:,} tokens and its tokenizer {len(tokenizer):,}",
            "Give the tokenizer that it was trained with.",
        )
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source=source,
        fingerprint=fingerprint(model),
        dtype=kinds.pop(),
        device=devices.pop(),
        apart=_apart(model),
    )


def fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 (hex) over name, dtype, shape and bytes of every tensor of the model, and its adapters' settings."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(json.dumps([name, str(weight.dtype), list(weight.shape)]).encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for name, config in sorted(getattr(model, "peft_config", {}).items()):
        settings = {key: str(value) for key, value in config.to_dict().items()}
        digest.update(json.dumps([name, settings], sort_keys=True).encode())
    return digest.hexdigest()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Within this context the model is in evaluation mode; each of its modules is then put back into its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _apart(model: Any) -> str:
    """Why a PEFT model that is switched off is not what it was tuned from; empty where it is, as far as can be seen."""
    if not isinstance(model, PeftModel):
        return ""
    for config in model.peft_config.values():
        start = getattr(config, "init_lora_weights", True)
        if getattr(config, "bias", "none") != "none":
            return "its adapter trains biases of the base"
        if getattr(config, "layer_replication", None):
            return "its adapter repeats layers of the base"
        if isinstance(start, str) and start.lower().startswith(CHANGES_THE_BASE):
            return f"its adapter began by changing weights of the base ({start})"
    return ""
