# SPDX-License-Identifier: Apache-2.0
"""One unit run alone through a clipper, against its gradient from plain autograd, clipped here as the papers say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from reticent.privacy.check import BrokenPromise
from reticent.privacy.clip.api import STABILITY, Clipper

LENGTHS = (4.0, 0.25)
"""Of the unit's gradient, in clip norms: one is to be cut, one to be left."""
EXACT, ROUNDED = 1e-3, 0.02
"""Relative deviation of a length that is let pass, where all is computed in float32 and where not."""


def probe(
    model: Any,
    clipper: Clipper,
    names: Mapping[nn.Parameter, str],
    inputs: Mapping[str, torch.Tensor],
    labels: torch.Tensor,
    *,
    weight: torch.Tensor,
    autocast: torch.dtype | None,
    clip_norm: float,
    clipping: str,
) -> float | None:
    """Stretch a unit's loss so that its gradient is longer, then shorter than ``clip_norm``; compare what comes out.

    Nothing may be accumulated in ``clipper``. The model is in evaluation mode meanwhile, so that dropout is off; no
    ``.grad`` and no random number is touched.

    Args:
        model: the model that is trained.
        clipper: the one that the training uses.
        names: of all trained parameters.
        inputs, labels, weight: of the rows of one unit, as in ``Clipper.accumulate``.
        autocast, clip_norm, clipping: what the clipper was made with.

    Returns:
        The largest relative deviation of a length; None where the unit has no gradient, so that nothing was checked.

    Raises:
        BrokenPromise: a parameter's share is missing, unclipped or wrong.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        gradients = _autograd(model, list(names), inputs, labels, weight, autocast)
        length = _length(gradients)
        if length == 0:
            return None
        exact = autocast is None and all(p.dtype == torch.float32 for p in model.parameters())
        worst = 0.0
        for times in LENGTHS:
            stretch = times * clip_norm / length
            with clipper.attached():
                clipped = clipper.accumulate(inputs, labels, weight=weight * stretch, rows_per_unit=len(labels))
            lengths = [float(length_of(gradient)) * stretch for gradient in gradients]
            factors = clip_factors(lengths, clip_norm, clipping)
            wanted = [gradient.mul(factor * stretch) for gradient, factor in zip(gradients, factors, strict=True)]
            worst = max(worst, _compare(clipper.take(), dict(zip(names, wanted, strict=True)), names, exact=exact))
            _close(float(clipped.norm.sum()), math.hypot(*lengths), "its norm is said to be", exact=exact)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return worst


def clip_factors(lengths: Sequence[float], clip_norm: float, clipping: str) -> list[float]:
    """What each parameter's gradient of one unit is multiplied by, given the length of each; see ``make_clipper``.

    >>> clip_factors([3.0, 4.0], 1.0, "flat")
    [0.2, 0.2]
    """
    whole = math.hypot(*lengths)
    if clipping == "automatic":
        return [clip_norm / (whole + STABILITY)] * len(lengths)
    if clipping == "per_layer":
        share = clip_norm / math.sqrt(len(lengths))
        return [min(1.0, share / length) if length else 1.0 for length in lengths]
    return [min(1.0, clip_norm / whole) if whole else 1.0] * len(lengths)


def length_of(tensor: torch.Tensor) -> torch.Tensor:
    """L2 norm (scalar, float64), row by row: float32 norms of tens of millions of elements are off by 0.2 % on CPUs."""
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 1 else tensor.reshape(1, -1)
    return torch.linalg.vector_norm(torch.linalg.vector_norm(rows, dim=1).double())


def _compare(
    sums: Mapping[nn.Parameter, torch.Tensor],
    wanted: Mapping[nn.Parameter, torch.Tensor],
    names: Mapping[nn.Parameter, str],
    *,
    exact: bool,
) -> float:
    """Each parameter's share; returns the relative deviation of the whole length.

    What is rounded may be off by a tenth of a share, and by a little of the whole where a share is small.
    """
    whole = _length(list(wanted.values()))
    own, rest = (EXACT, EXACT / 10) if exact else (5 * ROUNDED, ROUNDED)
    for parameter, name in names.items():
        if parameter not in sums:
            _broke(f"{name} has no clipped gradient")
        length = float(length_of(wanted[parameter]))
        off = float(length_of(sums[parameter] - wanted[parameter]))
        if not off <= own * length + rest * whole:
            _broke(f"in {name} its gradient is off by {off:.4g}, with a length of {length:.4g}")
    return _close(_length([sums[p] for p in names]), whole, "it adds a length of", exact=exact)


def _close(measured: float, wanted: float, what: str, *, exact: bool) -> float:
    off = abs(measured / wanted - 1)
    if not off <= (EXACT if exact else ROUNDED):
        _broke(f"{what} {measured:.4g} instead of {wanted:.4g}")
    return off


def _broke(measured: str) -> None:
    raise BrokenPromise(
        "a unit adds its own gradient, clipped over all parameters",
        f"one unit was run alone, and {measured}",
        "What one unit can change is not bounded as the noise assumes.",
    )


def _autograd(
    model: Any,
    parameters: Sequence[nn.Parameter],
    inputs: Mapping[str, torch.Tensor],
    labels: torch.Tensor,
    weight: torch.Tensor,
    autocast: torch.dtype | None,
) -> list[torch.Tensor]:
    """float32 gradients of the sum over rows of weight times mean -log p (nats) of the trained tokens."""
    with torch.enable_grad():
        with torch.autocast(labels.device.type, dtype=autocast, enabled=autocast is not None):
            logits = model(**inputs).logits[:, -labels.shape[1] :]
        total = torch.zeros((), device=labels.device)
        for row, targets, factor in zip(logits, labels, weight, strict=True):
            if bool((targets[1:] != -100).any()):
                total = total + factor * F.cross_entropy(row[:-1].float(), targets[1:], ignore_index=-100)
        if not total.requires_grad:
            return [torch.zeros_like(p) for p in parameters]
        found = torch.autograd.grad(total, list(parameters), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g.float() for p, g in zip(parameters, found, strict=True)]


def _length(tensors: Sequence[torch.Tensor]) -> float:
    return math.hypot(*(float(length_of(one)) for one in tensors))
