# SPDX-License-Identifier: Apache-2.0
"""The trained weights of a model as named arrays, and back: what server and clients send each other."""

from __future__ import annotations

from typing import Any

import torch

from reticent.federated.update import Update


def trained(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name; shared ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def taken_from(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the trained weights, float32 on the CPU.

    Examples:
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> arrays = taken_from(layer)
        >>> put_into(layer, {"weight": torch.ones(1, 2)})
        >>> layer.weight.tolist(), arrays["weight"].shape
        ([[1.0, 1.0]], torch.Size([1, 2]))
    """
    return {name: parameter.detach().cpu().float().clone() for name, parameter in trained(model).items()}


@torch.no_grad()
def put_into(model: Any, arrays: Update) -> None:
    """Set the trained weights of a model, which is changed in place.

    Args:
        model: with the tuning method on it.
        arrays: of the same names and shapes as `taken_from` gives.

    Raises:
        ValueError: other names.
    """
    parameters = trained(model)
    if parameters.keys() != arrays.keys():
        raise ValueError("arrays of another model")
    for name, parameter in parameters.items():
        parameter.copy_(arrays[name])


def bytes_of(arrays: Update) -> int:
    """Bytes of a message with such arrays, without its header.

    >>> bytes_of({"a": torch.zeros(3)})
    12
    """
    return sum(array.numel() * array.element_size() for array in arrays.values())
