# SPDX-License-Identifier: Apache-2.0
"""Adapters whose tuning changed the vocabulary: how many tokens their base has to have, and which of them nobody knows.

An adapter that came with new tokens was trained on a base that had been given rows for them. The file of the adapter
holds those rows, or some of them, or none; the base's own file never does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors.torch import load_file
from torch import nn

PREFIX = "base_model.model."
_WRAPPERS = ("base_layer", "modules_to_save", "original_module", "token_adapter")
"""Names that PEFT puts between a layer's and its weight's."""


@dataclass(frozen=True, kw_only=True)
class VocabularyRows:
    """How many tokens a base has, how many it is to have, and which of them have no weights in any file."""

    before: int
    wanted: int
    unknown: frozenset[int] = frozenset()

    @property
    def changed(self) -> bool:
        return self.before != self.wanted


def rows_wanted(adapter: Path, base: Any, tokens: int) -> VocabularyRows:
    """The rows that a PEFT adapter needs in the vocabulary of its base.

    Args:
        adapter: the folder of the adapter, with its weights.
        base: the model that it belongs on, as its own file has it.
        tokens: of the tokenizer that was saved with the adapter, or of the base's.
    """
    inputs, outputs = base.get_input_embeddings(), base.get_output_embeddings()
    before = int(inputs.weight.shape[0])
    names = {name: module for name, module in base.named_modules() if module is inputs or module is outputs}
    whole: dict[int, int] = {}
    part: list[int] = []
    weights = load_file(adapter)
    for module, rest, weight in _of_vocabulary({plain_name(key): weight for key, weight in weights.items()}, names):
        if rest == "weight":
            whole[id(module)] = int(weight.shape[0])
        elif "lora_embedding_A" in rest:
            part.append(int(weight.shape[1]))
        elif "lora_B" in rest and module is outputs:
            part.append(int(weight.shape[0]))
    listed = _listed(PeftConfig.from_pretrained(str(adapter.parent)), names, inputs)
    sizes = [*whole.values(), *part]
    wanted = max(sizes) if sizes else max(before, tokens, *(token + 1 for ids in listed.values() for token in ids), 0)
    tied = outputs is not None and outputs.weight is inputs.weight
    sides = [{id(inputs), id(outputs)}] if tied else [{id(inputs)}, {id(outputs)}] if outputs is not None else [set()]
    unknown = {
        token
        for token in range(before, wanted)
        for side in sides
        if not side & set(whole) and not any(token in listed.get(matrix, ()) for matrix in side)
    }
    return VocabularyRows(before=before, wanted=wanted, unknown=frozenset(unknown))


def plain_name(key: str) -> str:
    """The name that a weight of an adapter's file would have in the base."""
    return ".".join(part for part in key.removeprefix(PREFIX).split(".") if part not in _WRAPPERS)


def resize(base: Any, rows: VocabularyRows) -> None:
    """Give the base as many rows as are wanted, new ones the mean of those that it has, which says nothing."""
    if not rows.changed:
        return
    base.resize_token_embeddings(rows.wanted, mean_resizing=False)
    with torch.no_grad():
        for module in (base.get_input_embeddings(), base.get_output_embeddings()):
            for weight in () if module is None else (module.weight, getattr(module, "bias", None)):
                if weight is not None and rows.wanted > rows.before:
                    weight[rows.before :] = weight[: rows.before].float().mean(0).to(weight.dtype)


def _of_vocabulary(
    weights: Mapping[str, torch.Tensor], names: Mapping[str, nn.Module]
) -> Iterator[tuple[nn.Module, str, torch.Tensor]]:
    """The weights that belong to one of the named modules, with the rest of their names."""
    for key, weight in weights.items():
        for name, module in names.items():
            if key.startswith(f"{name}."):
                yield module, key.removeprefix(f"{name}."), weight


def _listed(config: Any, names: Mapping[str, nn.Module], inputs: nn.Module) -> dict[int, set[int]]:
    """Tokens that are trained one by one, by module."""
    given = getattr(config, "trainable_token_indices", None) or getattr(config, "token_indices", None) or ()
    if not isinstance(given, Mapping):
        return {id(inputs): {int(token) for token in given}}
    rows: dict[int, set[int]] = {}
    for wanted, ids in given.items():
        for name, module in names.items():
            if name == wanted or name.endswith(f".{wanted}"):
                rows.setdefault(id(module), set()).update(int(token) for token in ids)
    return rows
