# SPDX-License-Identifier: Apache-2.0
"""Weights of experts in a saved folder: one parameter in the model, and on disk a matrix or two for each expert."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

_SAMPLES = 4
"""Numbers by which parts are looked up before they are compared as a whole."""

_Part = tuple[nn.Parameter, int, int | None]
"""A parameter, an expert of it, and which half of its matrix; None for all of it."""


def saved_by_expert(parameters: Collection[nn.Parameter], folder: Path) -> set[nn.Parameter]:
    """Those of ``parameters`` ``[E, d, p]`` of which every expert's matrix lies in the folder's safetensors files.

    A matrix may lie there in two halves (gate and up), each a tensor. Names do not matter.
    """
    stacked = [p for p in parameters if p.dim() == 3]
    missing = {part for p in stacked for part in _parts(p)}
    by_sample: dict[torch.dtype, dict[tuple[float, ...], list[_Part]]] = {}
    for path in sorted(folder.glob("*.safetensors")) if stacked else ():
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                tensor = file.get_tensor(key)
                index = by_sample.setdefault(tensor.dtype, _index(stacked, tensor.dtype))
                for part in index.get(_sample(tensor), ()):
                    if torch.equal(_numbers(part).to(tensor.dtype).flatten(), tensor.flatten()):
                        missing.discard(part)
    return {p for p in stacked if not any(_is_lost(p, expert, missing) for expert in range(len(p)))}


def _is_lost(parameter: nn.Parameter, expert: int, missing: Collection[_Part]) -> bool:
    halves = any((parameter, expert, half) in missing for half in (0, 1))
    return (parameter, expert, None) in missing and halves


def _parts(parameter: nn.Parameter) -> Iterator[_Part]:
    for expert in range(len(parameter)):
        yield from ((parameter, expert, half) for half in (None, 0, 1))


def _numbers(part: _Part) -> torch.Tensor:
    parameter, expert, half = part
    matrix = parameter.detach()[expert].cpu()
    if half is None:
        return matrix
    middle = (len(matrix) + 1) // 2
    return matrix[middle:] if half else matrix[:middle]


def _sample(tensor: torch.Tensor) -> tuple[Any, ...]:
    return (tensor.numel(), *tensor.flatten()[:_SAMPLES].float().tolist())


def _index(parameters: Collection[nn.Parameter], dtype: torch.dtype) -> dict[tuple[float, ...], list[_Part]]:
    index: dict[tuple[float, ...], list[_Part]] = {}
    for parameter in parameters:
        for part in _parts(parameter):
            index.setdefault(_sample(_numbers(part).to(dtype)), []).append(part)
    return index
