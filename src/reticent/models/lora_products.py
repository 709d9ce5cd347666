# SPDX-License-Identifier: Apache-2.0
"""Sums of LoRA adapters, kept exactly: of ``Σ w_k s B_k A_k`` as one adapter of all ranks together.

Adding ``A`` and ``B`` apart would be another model, as products of sums have terms that belong to no adapter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from reticent.core.errors import BadInput
from reticent.core.portable import portable
from reticent.models import adapters
from reticent.models.tuned import TuningInfo

Weights = Mapping[str, torch.Tensor]

_A, _B = ("lora_A.weight", "lora_embedding_A"), ("lora_B.weight", "lora_embedding_B")
_OTHER_PRODUCTS = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern")
"""Settings of PEFT with which an adapter is not ``alpha / r`` times a product."""


def is_lora(weights: Weights) -> bool:
    """True where the weights of an adapter are products.

    >>> is_lora({"q_proj.lora_A.weight": torch.zeros(2, 3), "q_proj.lora_B.weight": torch.zeros(3, 2)})
    True
    """
    return any(name.endswith(_A) for name in weights)


def sum_of_products(parts: Sequence[tuple[float, Weights]]) -> dict[str, torch.Tensor]:
    """The adapter whose products are ``Σ w_k B_k A_k``.

    Args:
        parts: weights ``w_k`` and adapters with the same names: ``lora_A [r_k, in]``, ``lora_B [out, r_k]``.

    Returns:
        ``lora_A [Σ r_k, in]`` and ``lora_B [out, Σ r_k]``; of what is no product, the sum of ``w_k`` times each.

    Examples:
        >>> first = {"q.lora_A.weight": torch.tensor([[1.0]]), "q.lora_B.weight": torch.tensor([[4.0]])}
        >>> second = {"q.lora_A.weight": torch.tensor([[2.0]]), "q.lora_B.weight": torch.tensor([[3.0]])}
        >>> joined = sum_of_products([(0.5, first), (0.5, second)])
        >>> (joined["q.lora_B.weight"] @ joined["q.lora_A.weight"]).item()  # half of 4 · 1, half of 3 · 2
        5.0
    """
    joined = {}
    for name in parts[0][1]:
        if name.endswith(_A):
            joined[name] = torch.cat([adapter[name] for _, adapter in parts], dim=0)
        elif name.endswith(_B):
            joined[name] = torch.cat([weight * adapter[name] for weight, adapter in parts], dim=1)
        else:
            joined[name] = torch.stack([weight * adapter[name] for weight, adapter in parts]).sum(0)
    return joined


def write_sum(parts: Sequence[tuple[float, Path]], folder: Path, about: TuningInfo, *, at: Path) -> None:
    """Write the sum of LoRA adapters of one training method as an adapter, with its configuration and description.

    Args:
        parts: weights and folders of adapters, which have the same rank and scale.
        folder: a new folder to write into.
        about: of each of the adapters; the sum's has its own rank and scale.
        at: where the folder is to lie in the end, for the name of the base in it.

    Raises:
        BadInput: they do not fit each other, or are adapters of a kind that is no product of two matrices (DoRA).
    """
    loaded = [(weight, load_file(place / adapters.WEIGHTS)) for weight, place in parts]
    shapes = [{name: tensor.shape for name, tensor in weights.items()} for _, weights in loaded]
    configs = [json.loads((place / adapters.CONFIG).read_text(encoding="utf-8")) for _, place in parts]
    for (_, place), shape, config in zip(parts, shapes, configs, strict=True):
        if shape != shapes[0] or any(config[name] != configs[0][name] for name in ("r", "lora_alpha")):
            raise BadInput(str(place), f"is no adapter like that in {parts[0][1]}", "Train them alike.")
        special = [name for name in _OTHER_PRODUCTS if config.get(name)]
        if special:
            raise BadInput(
                str(place), f"is an adapter with {special[0]}, and a sum of those is no adapter", "Choose npo."
            )
    count = len(parts)
    named = portable(about.base, at)
    save_file(
        {name: tensor.contiguous() for name, tensor in sum_of_products(loaded).items()}, folder / adapters.WEIGHTS
    )
    config = configs[0] | _times(configs[0], count, "r", "lora_alpha") | {"base_model_name_or_path": named}
    (folder / adapters.CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    params = {**about.params, **_times(about.params, count, "r", "alpha")}
    replace(about, base=named, params=params).write(folder)


def _times(settings: Mapping[str, Any], count: int, *names: str) -> dict[str, Any]:
    """Rank and scale that many times, by which their ratio stays."""
    return {name: count * settings[name] for name in names if name in settings}
