# SPDX-License-Identifier: Apache-2.0
"""A frozen base whose linear layers lie in 4 or 8 bits while an adapter is trained on it (bitsandbytes, extra `quant`).

In 4 bits a weight is one of sixteen values (NF4, arXiv:2305.14314) times the scale of its block of 64; the scales are
rounded once more. A layer makes numbers of its own matrix when it runs, so a text is read as it is alone, whatever else
is in the batch. In 8 bits (LLM.int8, arXiv:2208.07339) activations are rounded too, and which of them are not depends
on the batch: private training refuses it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from reticent.core.errors import BadInput
from reticent.models.locate import first_line

QUANTISED = ("4bit", "8bit")
BLOCK, SCALES = 64, 256
"""Weights that share a scale, and scales that share one of theirs."""
BYTES_OF_4BIT = 0.5 + 1 / BLOCK + 4 / (BLOCK * SCALES)
"""Of one weight, with its part of the scales."""


def refuse_without_package(bits: str) -> None:
    """Refuse to quantise where the extra is not installed, before anything is loaded.

    Raises:
        BadInput: bitsandbytes is missing.
    """
    if bits and find_spec("bitsandbytes") is None:
        raise BadInput(
            f"load_in={bits!r}", "needs bitsandbytes, which is not installed", "Run: pip install 'reticent[quant]'"
        )


def quantising_arguments(bits: str, config: Any, device: str) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` by which a model in 4 or 8 bits is made of files of more.

    Args:
        bits: one of `QUANTISED`.
        config: of the model.
        device: where it is to lie.

    Raises:
        BadInput: the files are quantised already, or the package cannot be used here.
    """
    from transformers import BitsAndBytesConfig

    refuse_without_package(bits)
    if getattr(config, "quantization_config", None) is not None:
        raise BadInput(f"load_in={bits!r}", "the base is quantised already", "Leave --load_in out.")
    try:
        import bitsandbytes  # noqa: F401 - whether it can be had
    except (ImportError, OSError, RuntimeError) as error:
        raise BadInput(
            f"load_in={bits!r}", f"bitsandbytes cannot be used here ({first_line(error)})", "Install it anew."
        ) from error
    how: dict[str, Any] = {"load_in_8bit": True}
    if bits == "4bit":
        how = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        how["bnb_4bit_compute_dtype"] = torch.float32
    place = f"cuda:{torch.cuda.current_device()}" if device == "cuda" else device
    return {"quantization_config": BitsAndBytesConfig(**how), "device_map": {"": place}}


def quantised_in(model: Any) -> str:
    """``"4bit"``, ``"8bit"``, or empty for a model that lies in neither.

    Examples:
        >>> quantised_in(torch.nn.Linear(2, 3))
        ''
    """
    return next((bits for bits in QUANTISED if getattr(model, f"is_loaded_in_{bits}", False)), "")


def keep_layout(model: Any) -> Any:
    """Have layers in 4 bits leave their weights as they are: on some CPUs a forward pass in evaluation mode packs them
    anew and rounds their scales to bfloat16, so a model that was looked at would be trained on as another one.

    On a CPU the other weights are copied out of the files, which would else stay mapped as a whole for them.
    """
    for weight in model.parameters():
        if weight.device.type == "cpu" and weight.is_floating_point():
            weight.data = weight.data.clone()
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def compute_in(model: Any, dtype: torch.dtype) -> None:
    """Have layers in 4 bits compute in ``dtype``: under autocast that of autocast, else float32."""
    for module in model.modules():
        if type(getattr(module, "weight", None)).__name__ == "Params4bit" and hasattr(module, "compute_dtype"):
            module.compute_dtype = dtype


def is_quantised(weight: torch.Tensor) -> bool:
    """True for the matrix of a layer in 4 bits, which computes in the dtype of what it is given."""
    return type(weight).__name__ == "Params4bit"
