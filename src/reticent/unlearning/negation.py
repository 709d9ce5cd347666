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
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.portable import portable
from reticent.models import adapters
from reticent.models.load import load
from reticent.models.lora_products import Weights, is_lora, write_sum
from reticent.models.tuned import FILE, TuningInfo
from reticent.train.unlearning.methods.negation import negation


def negate_weights(before: Weights, over: Weights, alpha: float) -> dict[str, torch.Tensor]:
    """`reticent.train.unlearning.methods.negation.negation`, entry by entry.

    >>> negate_weights({"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}, 0.5)
    {'w': tensor([0.])}
    """
    return {name: negation(weight, over[name], alpha=alpha) for name, weight in before.items()}


def negate(parent: Path, over: Path, out: Path, *, alpha: float, request: str = "", at: Path | None = None) -> None:
    """Write the model ``parent - alpha · (over - parent)`` into the new folder ``out``.

    Args:
        parent: folder of the tuned model.
        over: folder of the model that goes on from it and over-fits what is to be forgotten.
        out: folder to make.
        alpha: how far to go back; above 0.
        request: fingerprint of the request, for the description of the model.
        at: where ``out`` is to lie in the end, for the name of the base in it; None for where it is.

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
        _adapter(parent, over, out, alpha, about, at or out)
    start.tokenizer.save_pretrained(out)
    if not (out / FILE).exists():
        replace(about, base=portable(about.base, at or out)).write(out)


def _whole(model: torch.nn.Module, over: Path, out: Path, alpha: float) -> None:
    others = dict(load(str(over), dtype="float32", device="cpu").model.named_parameters())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(negation(weight, others[name], alpha=alpha))
    adapters.save(model, out, "weights")


def _adapter(parent: Path, over: Path, out: Path, alpha: float, about: TuningInfo, at: Path) -> None:
    before, other = load_file(parent / adapters.WEIGHTS), load_file(over / adapters.WEIGHTS)
    if {name: weight.shape for name, weight in before.items()} != {name: w.shape for name, w in other.items()}:
        raise BadInput(str(over), f"is no training that went on from {parent.name}", "Unlearn again.")
    if is_lora(before):
        write_sum([(1 + alpha, parent), (-alpha, over)], out, about, at=at)
        return
    weights = negate_weights(before, other, alpha)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, out / adapters.WEIGHTS)
    if adapters.is_peft(parent):
        config = json.loads((parent / adapters.CONFIG).read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = portable(about.base, at)
        (out / adapters.CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
