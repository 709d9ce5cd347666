# SPDX-License-Identifier: Apache-2.0
"""Where a layer computes, and its weights while it does: for models whose weights lie elsewhere until then.

A model that a device map put on several devices (`models.device_map`) has layers without weights of their own: hooks of
Accelerate's fetch them from the host's memory or from a file when the layer is called, and let go of them afterwards.
Who calls such a layer notices nothing; who reads its weights beside it, or asks where they are, asks here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import align_module_device
from torch import nn


def computing_device(layer: nn.Module) -> torch.device:
    """The device on which ``layer`` takes its inputs and computes; of a layer of layers, its first one with weights.

    Args:
        layer: with a weight, whether it lies there now or not.

    Examples:
        >>> computing_device(nn.Linear(2, 3)).type
        'cpu'
    """
    for module in layer.modules():
        weight = next(module.parameters(recurse=False), None)
        if weight is None:
            continue
        if weight.is_meta:
            hook = getattr(module, "_hf_hook", None)
            if (place := getattr(hook, "execution_device", None)) is not None:
                return torch.device(place)
        return weight.device
    raise ValueError(f"a {type(layer).__name__} without weights computes nowhere")


def lies_elsewhere(model: nn.Module) -> bool:
    """True if some weights of ``model`` are fetched when they are needed.

    Examples:
        >>> lies_elsewhere(nn.Linear(2, 3))
        False
    """
    return any(_is_away(module, weight) for module, _, weight in _direct(model))


@contextmanager
def weights_at_hand(layer: nn.Module) -> Iterator[None]:
    """Within this context the weights of ``layer`` itself lie where it computes, so that they can be read.

    Examples:
        >>> with weights_at_hand(nn.Linear(2, 3)):
        ...     pass
    """
    with align_module_device(layer):
        yield


@contextmanager
def stand_ins(model: nn.Module) -> Iterator[None]:
    """Within this context weights of ``model`` that lie elsewhere have stand-ins where they compute: of their shape,
    with no numbers and next to no memory. What is put on a layer looks at its weights for shape and device.

    Examples:
        >>> with stand_ins(nn.Linear(2, 3)):
        ...     pass
    """
    away = [(module, name, weight) for module, name, weight in _direct(model) if _is_away(module, weight)]
    for module, name, weight in away:
        nothing = torch.full((), float("nan"), dtype=weight.dtype, device=computing_device(module))
        module._parameters[name] = nn.Parameter(nothing.expand(weight.shape), requires_grad=False)
    try:
        yield
    finally:
        for module, name, weight in away:
            module._parameters[name] = weight


def _is_away(module: nn.Module, weight: nn.Parameter) -> bool:
    return weight.is_meta and hasattr(module, "_hf_hook")


def _direct(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            yield module, name, weight


def own_thread_pool() -> None:
    """Make torch's pool of threads, for a process that was forked from one that had computed already.

    Its first use there replaces the parent's pool, and several threads that use it first (as transformers reads
    weights) end in torch's ``Invalid thread pool!``. Call it where only one thread runs.
    """
    torch.set_num_threads(torch.get_num_threads())
