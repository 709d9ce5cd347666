# SPDX-License-Identifier: Apache-2.0
"""Merge with a trusted sibling: the weighted mean of both models' weights.

A backdoor that few weights carry is diluted before the task is, as the task's change is the larger one (Arora et al.,
"Here's a Free Lunch: Sanitizing Backdoored Models with Model Merge", ACL Findings 2024). No data is needed and nothing
is trained; how much weight the sibling gets decides both what is left of the attack and what is left of the task.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.models.load import LoadedModel
from reticent.repair.repaired_model import is_repaired, key_of, load_whole, refuse_place, repaired_folder, save_whole

NAME = "sibling_merge"


def merge_with_sibling(
    suspect: str,
    sibling: str,
    out: str | Path,
    *,
    weight: float = 0.5,
    base: str | None = None,
    device: str = "auto",
) -> Path:
    """Make the model ``(1 - weight) · suspect + weight · sibling``. It takes seconds; called again it returns at once.

    Args:
        suspect: folder, hub id or catalogue name; a LoRA adapter is merged into its base first.
        sibling: trusted, of the same architecture, size and vocabulary: what the suspect was made from, an earlier
            revision, or another fine-tune for the same task.
        out: the folder to make; a whole model in float32.
        weight: of the sibling, in (0, 1].
        base: for an adapter, the model that it belongs on; None for the one that it names.
        device: where it is computed.

    Raises:
        BadInput: the two do not fit each other; ``out`` holds something else.

    Examples:
        >>> from reticent.testing.tiny import save_tiny
        >>> folder = merge_with_sibling(str(save_tiny("suspect", seed=1)), str(save_tiny("sibling")), "merged")
        >>> sorted(path.name for path in folder.glob("re*.json"))
        ['repair.json', 'reticent_files.json']
    """
    validate.in_range(0, 1, weight=weight)
    place = refuse_place(out, suspect, sibling)
    first = load_whole(suspect, base=base, device=device)
    second = load_whole(sibling, device=device)
    refuse_unlike(first, second)
    key = key_of(NAME, first.fingerprint, second.fingerprint, weight)
    if is_repaired(place, key):
        return place
    moved = _average(first.model, second.model, weight)
    changed = {"weight": weight, "moved": moved, "sibling": second.fingerprint}
    sources = (suspect, sibling, *([base] if base else []))
    with repaired_folder(place, NAME, *sources, changed=changed, key=key) as folder:
        save_whole(first, folder)
    return place


def refuse_unlike(suspect: LoadedModel, sibling: LoadedModel) -> None:
    """Refuse two models whose weights are no places of the same network.

    Raises:
        BadInput: names or shapes of weights differ, or the vocabulary does.
    """
    given, fix = f"the sibling {sibling.source}", "Give the model that the suspect was made from."
    ours, theirs = (
        {name: tuple(weight.shape) for name, weight in loaded.model.named_parameters()} for loaded in (suspect, sibling)
    )
    if ours != theirs:
        name = sorted(set(ours.items()) ^ set(theirs.items()))[0][0]
        reason = f"has other weights than the suspect ({name}: {theirs.get(name)}, the suspect {ours.get(name)})"
        raise BadInput(given, reason, fix)
    if suspect.tokenizer.get_vocab() != sibling.tokenizer.get_vocab():
        raise BadInput(given, "has another vocabulary, so the same rows stand for other tokens", fix)


def _average(model: Any, sibling: Any, weight: float) -> float:
    """Move the model towards its sibling, in place; the length of the way over that of its weights."""
    others = dict(sibling.named_parameters())
    way = size = 0.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            size += float(parameter.double().square().sum())
            step = weight * (others[name].to(parameter) - parameter)
            way += float(step.double().square().sum())
            parameter.add_(step)
    return (way / max(size, 1e-300)) ** 0.5
