# SPDX-License-Identifier: Apache-2.0
"""Load a model to be audited or tuned, and know exactly which weights it has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.weights import fingerprint_weights

hf_logging.disable_progress_bar()
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A model in evaluation mode, with its tokenizer and what it was made of.

    Args:
        model: a causal language model; a PEFT model if ``source`` is an adapter.
        tokenizer: the one that was saved with it, or its base's.
        source: what the person named.
        fingerprint: SHA-256 (hex) of all weights that answer: the base's and, if there is one, the adapter's.
        base_source: what it was tuned from, where known.
        base_fingerprint: SHA-256 (hex) of the base's weights, where known.
        dtype: of the weights in memory: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        device: where they are.
    """

    model: Any
    tokenizer: Any
    source: str
    fingerprint: str
    base_source: str | None = None
    base_fingerprint: str | None = None
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def is_adapter(self) -> bool:
        """Whether the base can be had from the same memory by switching an adapter off."""
        return hasattr(self.model, "disable_adapter")

    def adapter_off(self) -> AbstractContextManager[None]:
        """Within this context the model answers as its base.

        Raises:
            BadInput: the model is no adapter on a base.
        """
        if not self.is_adapter:
            raise BadInput(self.source, "is no adapter, so no base lies beneath it", "Name the base (--reference).")
        return self.model.disable_adapter()


def load(source: str, *, base: str | None = None, dtype: str = "auto", device: str = "auto") -> Loaded:
    """Load a folder, a hub id or a catalogue name; safetensors only, no remote code."""
    folder = Path(source)
    chosen = _device(device)
    kind = pick_dtype(dtype, chosen)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[kind], use_safetensors=True, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Loaded(
        model=model.eval().to(chosen),
        tokenizer=tokenizer,
        source=source,
        fingerprint=fingerprint_weights(folder),
        dtype=kind,
        device=chosen,
    )


def _device(device: str) -> str:
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def pick_dtype(dtype: str, device: str) -> str:
    """``dtype``, or for ``"auto"`` bfloat16 where the device computes in it and float32 elsewhere."""
    if dtype != "auto":
        validate.one_of(DTYPES, dtype=dtype)
        return dtype
    return "bfloat16" if has_bfloat16(device) else "float32"


def has_bfloat16(device: str) -> bool:
    """Whether the device has instructions for bfloat16 (AVX512-BF16 or AMX on a CPU)."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)
