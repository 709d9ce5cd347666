# SPDX-License-Identifier: Apache-2.0
"""Weights of saved models, to hold two trainings against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors in the folder's safetensors, by name."""
    files = sorted(folder.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def same(left: Path, right: Path) -> bool:
    """True if both folders hold the same tensors, to the last bit."""
    return equal(weights(left), weights(right))


def equal(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """True if both have the same tensors, to the last bit; there must be some."""
    return bool(left) and left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
