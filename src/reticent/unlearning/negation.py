# SPDX-License-Identifier: Apache-2.0
"""Task-vector negation (Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023; as in MUSE, 2024).

A copy of the tuned model is trained on what is to be forgotten until it over-fits, and the way that it went is taken
back from the tuned one: ``θ - α (θ_over - θ)``. No step is taken against the texts themselves.

Where a LoRA adapter is trained, ``θ`` is its product: ``ΔW = s B A`` with the scale ``s``. The outcome
``(1 + α) s B A - α s B' A'`` has up to twice the rank and is kept exactly, as an adapter of that rank: going the way
back in ``A`` and ``B`` apart would be another model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models import adapters
from reticent.models.load import load
from reticent.models.tuned import TuningInfo

Weights = Mapping[str, torch.Tensor]
_A, _B = "lora_A.weight", "lora_B.weight"


def negate_weights(before: Weights, over: Weights, alpha: float) -> dict[str, torch.Tensor]:
    """``before - alpha · (over - before)``, entry by entry.

    >>> negate_weights({"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}, 0.5)
    {'w': tensor([0.])}
    """
    return {name: weight - alpha * (over[name] - weight) for name, weight in before.items()}


def negate_lora(before: Weights, over: Weights, alpha: float) -> dict[str, torch.Tensor]:
    """The same for the products ``B A`` of LoRA, as an adapter of twice the rank.

    Args:
        before, over: weights of adapters with the same names, ``lora_A [r, in]`` and ``lora_B [out, r]``.
        alpha: of the negation.

    Returns:
        ``lora_A [2 r, in]`` and ``lora_B [out, 2 r]``, whose product is ``(1 + alpha) B A - alpha B' A'``.
    """
    joined = {}
    for name, weight in before.items():
        if name.endswith(_A):
            joined[name] = torch.cat([weight, over[name]], dim=0)
        elif name.endswith(_B):
            joined[name] = torch.cat([(1 + alpha) * weight, -alpha * over[name]], dim=1)
        else:
            joined[name] = weight - alpha * (over[name] - weight)
    return joined


def negate(parent: Path, over: Path, out: Path, *, alpha: float, request: str = "") -> None:
    """Write the model ``parent - alpha · (over - parent)`` into the new folder ``out``.

    Args:
        parent: folder of the tuned model.
        over: folder of the model that goes on from it and over-fits what is to be forgotten.
        out: folder to make.
        alpha: how far to go back; above 0.
        request: fingerprint of the request, for the description of the model.

    Raises:
        BadInput: the two do not fit each other; an adapter of a kind whose product is none of two matrices (DoRA).
    """
    validate.positive(alpha=alpha)
    start = load(str(parent), dtype="float32", device="cpu")
    assert start.tuned is not None
    about = replace(start.tuned, parent=start.fingerprint, request=request)
    out.mkdir(parents=True)
    if about.storage == "weights":
        _whole(start.model, over, out, alpha)
    else:
        about = _adapter(parent, over, out, alpha, about)
    start.tokenizer.save_pretrained(out)
    about.write(out)


def _whole(model: torch.nn.Module, over: Path, out: Path, alpha: float) -> None:
    others = dict(load(str(over), dtype="float32", device="cpu").model.named_parameters())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.sub_(others[name] - weight, alpha=alpha)
    adapters.save(model, out, "weights")


def _adapter(parent: Path, over: Path, out: Path, alpha: float, about: TuningInfo) -> TuningInfo:
    before, other = load_file(parent / adapters.WEIGHTS), load_file(over / adapters.WEIGHTS)
    if {name: weight.shape for name, weight in before.items()} != {name: w.shape for name, w in other.items()}:
        raise BadInput(str(over), f"is no training that went on from {parent.name}", "Unlearn again.")
    lora = any(name.endswith(_A) for name in before)
    weights = negate_lora(before, other, alpha) if lora else negate_weights(before, other, alpha)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, out / adapters.WEIGHTS)
    if not adapters.is_peft(parent):
        return about
    config = json.loads((parent / adapters.CONFIG).read_text(encoding="utf-8"))
    if lora:
        config = _twice_the_rank(config, parent)
        params = about.params
        params = {**params, "r": 2 * params["r"], "alpha": 2 * params["alpha"]} if "r" in params else params
        about = replace(about, params=params)
    (out / adapters.CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    readme = parent / "README.md"
    if readme.exists():
        shutil.copyfile(readme, out / "README.md")
    return about


def _twice_the_rank(config: dict[str, object], parent: Path) -> dict[str, object]:
    """The configuration of an adapter of twice the rank and the same scale."""
    special = [name for name in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern") if config.get(name)]
    if special:
        raise BadInput(
            str(parent), f"is an adapter with {special[0]}, whose negation is not that of a product", "Choose npo."
        )
    rank, alpha = config["r"], config["lora_alpha"]
    assert isinstance(rank, int)
    assert isinstance(alpha, int | float)
    return {**config, "r": 2 * rank, "lora_alpha": 2 * alpha}
