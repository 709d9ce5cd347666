# SPDX-License-Identifier: Apache-2.0
"""Trying a layer out on made-up numbers: what it computes is what tells its kind, a name says too little."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.func import functional_call

SCALES = (1.0, 1e-3)
"""Of the inputs; small ones show which constant is added to a variance."""
_RTOL, _ATOL = 1e-4, 1e-5

Formula = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]


def computes(module: nn.Module, shape: Sequence[int], formula: Formula) -> bool:
    """True if ``module`` gives what ``formula`` gives.

    Tried for other weights than its own (zeros would hide much), large and small inputs, in training and evaluation.

    The module and the random state are left as they are. Layers that hold others, or whose weights are quantised or not
    there (meta), are not tried.

    Args:
        module: called with one tensor.
        shape: of the input.
        formula: of the input and the layer's parameters by name.
    """
    parameters = dict(module.named_parameters(recurse=False))
    plain = all(
        p.is_floating_point() and p.device.type != "meta" and type(p) is nn.Parameter for p in parameters.values()
    )
    if not parameters or not plain or list(module.children()):
        return False
    draw = torch.Generator().manual_seed(0)
    device = next(iter(parameters.values())).device
    random = {name: torch.randn(p.shape, generator=draw).to(device) for name, p in parameters.items()}
    x = torch.randn(tuple(shape), generator=draw).to(device)
    before = module.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return all(
                _same(functional_call(module.train(training), random, (x * scale,)), formula(x * scale, random))
                for training in (False, True)
                for scale in SCALES
            )
    except Exception:  # noqa: BLE001 - whatever it is, it is not called as such a layer is
        return False
    finally:
        module.train(before)


def _same(given: object, expected: torch.Tensor) -> bool:
    if not isinstance(given, torch.Tensor) or given.shape != expected.shape:
        return False
    return torch.allclose(given.float(), expected.float(), rtol=_RTOL, atol=_ATOL)
