# SPDX-License-Identifier: Apache-2.0
"""Some units together through the training's own clipping, against the gradient of each from plain autograd, alone.

Each unit's loss is stretched so that its gradient is a known number of clip norms long: some are to be cut, others to
be left. Then the sum and every norm are known, whatever shares the micro-batch, and a factor that belongs to another
unit, or to all, or a row that sees its neighbour's padding, shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from reticent.models.encode import IGNORED
from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.clip.clipper import STABILITY

LENGTHS = (4.0, 0.25, 2.5, 0.6)
"""Of the units' gradients, in clip norms."""
EXACT, ROUNDED = 1e-3, 0.02
"""Relative deviation of a length that is let pass, where all is computed in float32 and where not."""

Sums = Mapping[nn.Parameter, torch.Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class SingleUnit:
    """One row of a unit, alone and not padded.

    Args:
        ids: ``[n]`` int64.
        labels: ``[n]`` int64, -100 where not trained on.
        weight: of its mean loss in the unit's.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    weight: float


def probe(
    model: Any,
    names: Mapping[nn.Parameter, str],
    units: Sequence[Sequence[SingleUnit]],
    run: Callable[[Sequence[float]], tuple[Sums, torch.Tensor]],
    *,
    autocast: torch.dtype | None,
    clip_norm: float,
    clipping: str,
) -> int:
    """Compare what ``run`` makes of ``units`` with what plain autograd says of each of them.

    The model is in evaluation mode meanwhile, so that dropout is off; no ``.grad`` and no random number is touched.

    Args:
        model: the model that is trained.
        names: of all trained parameters.
        units: at most ``len(LENGTHS)``, each by its rows.
        run: puts the same units through the training's clipping, each unit's loss times a number; gives the clipped
            sums, and the norms before clipping in the order of the units. A number of 0 leaves a unit out, with a norm
            of 0.
        autocast, clip_norm, clipping: what the clipper was made with.

    Returns:
        How many units had a gradient that can be compared; with none, nothing was checked.

    Raises:
        GuaranteeViolated: a parameter's share is missing, unclipped or wrong, or a norm is.
    """
    return probe_by(Alone(model, names, autocast), names, units, run, clip_norm=clip_norm, clipping=clipping)


class Alone:
    """Gradients of single units by plain autograd.

    Args:
        model: the model that is trained.
        names: of all trained parameters.
        autocast: what it computes in.
    """

    def __init__(self, model: Any, names: Mapping[nn.Parameter, str], autocast: torch.dtype | None) -> None:
        self.model, self.names, self.autocast = model, names, autocast
        self._numbers = {parameter: number for number, parameter in enumerate(names)}

    @property
    def exact(self) -> bool:
        """True where all is computed in float32."""
        return self.autocast is None and all(p.dtype == torch.float32 for p in self.model.parameters())

    def gradients(self, unit: Sequence[SingleUnit]) -> list[torch.Tensor]:
        """float32, of each parameter in the order of ``names``."""
        return _autograd(self.model, list(self.names), unit, self.autocast)

    def lengths(self, tensors: Sequence[torch.Tensor]) -> list[float]:
        """Of whole parameters' tensors, all that are trained."""
        return [float(length_of(tensor)) for tensor in tensors]

    def number(self, parameter: nn.Parameter) -> int:
        """Of a parameter among ``lengths``."""
        return self._numbers[parameter]


def probe_by(
    alone: Alone,
    names: Mapping[nn.Parameter, str],
    units: Sequence[Sequence[SingleUnit]],
    run: Callable[[Sequence[float]], tuple[Sums, torch.Tensor]],
    *,
    clip_norm: float,
    clipping: str,
) -> int:
    """As `probe`, with gradients of single units by ``alone``, whose model is in evaluation mode meanwhile."""
    model, exact = alone.model, alone.exact
    numbers = [alone.number(parameter) for parameter in names]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        wanted = {parameter: torch.zeros_like(parameter, dtype=torch.float32) for parameter in names}
        stretches, lengths = [], []
        for unit, times in zip(units, LENGTHS, strict=False):
            gradients = alone.gradients(unit)
            norms_of = alone.lengths(gradients)
            length = math.hypot(*norms_of)
            usable = length > 0 and math.isfinite(length)
            stretches.append(times * clip_norm / length if usable else 0.0)
            lengths.append(length * stretches[-1] if usable else 0.0)
            if usable:
                of_all = clip_factors([stretches[-1] * norm for norm in norms_of], clip_norm, clipping)
                factors = [of_all[number] for number in numbers]
                for total, gradient, factor in zip(wanted.values(), gradients, factors, strict=True):
                    total.add_(gradient, alpha=factor * stretches[-1])
        compared = sum(stretch > 0 for stretch in stretches)
        if compared:
            sums, norms = run(stretches)
            _compare(sums, wanted, alone, exact=exact)
            _same_norms(norms.tolist(), lengths, exact=exact)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return compared


def clip_factors(lengths: Sequence[float], clip_norm: float, clipping: str) -> list[float]:
    """The factor of each parameter's gradient of one unit, given the length of each; see ``make_clipper``.

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


def _compare(sums: Sums, wanted: Sums, alone: Alone, *, exact: bool) -> None:
    """Each parameter's share, and the whole length.

    What is rounded may be off by a tenth of a share, and by a little of the whole where a share is small.
    """
    names = alone.names
    for parameter, name in names.items():
        if parameter not in sums:
            _broke(f"{name} has no clipped gradient")
    lengths = alone.lengths([wanted[parameter] for parameter in names])
    differences = alone.lengths([sums[parameter] - wanted[parameter] for parameter in names])
    added = math.hypot(*alone.lengths([sums[parameter] for parameter in names]))
    whole = math.hypot(*lengths)
    share, rest = (EXACT, EXACT / 10) if exact else (5 * ROUNDED, ROUNDED)
    for parameter, name in names.items():
        length, off = lengths[alone.number(parameter)], differences[alone.number(parameter)]
        if not off <= share * length + rest * whole:
            _broke(f"in {name} their sum is off by {off:.4g}, with a length of {length:.4g}")
    _close(added, whole, "they add a length of", exact=exact)


def _same_norms(norms: Sequence[float], wanted: Sequence[float], *, exact: bool) -> None:
    if len(norms) != len(wanted):
        _broke(f"{len(norms)} norms were taken of {len(wanted)} units")
    for measured, length in zip(norms, wanted, strict=True):
        if length:
            _close(measured, length, "a norm is said to be", exact=exact)
        elif measured:
            _broke("a unit that adds nothing has a norm")


def _close(measured: float, wanted: float, what: str, *, exact: bool) -> None:
    if not abs(measured / wanted - 1) <= (EXACT if exact else ROUNDED):
        _broke(f"{what} {measured:.4g} instead of {wanted:.4g}")


def _broke(measured: str) -> None:
    raise GuaranteeViolated(
        "a unit adds its own gradient, clipped over all parameters",
        f"some units were run together and each alone, and {measured}",
        "What one unit can change is not bounded as the noise assumes.",
    )


def _autograd(
    model: Any, parameters: Sequence[nn.Parameter], unit: Sequence[SingleUnit], autocast: torch.dtype | None
) -> list[torch.Tensor]:
    """float32 gradients of the sum over rows of weight times mean -log p (nats) of the trained tokens."""
    total: list[torch.Tensor] | None = None
    for row in unit:
        targets = row.labels[1:]
        if not bool((targets != IGNORED).any()):
            continue
        with torch.enable_grad():
            with torch.autocast(row.ids.device.type, dtype=autocast, enabled=autocast is not None):
                logits = model(input_ids=row.ids[None], use_cache=False).logits[0, -len(row.ids) :]
            loss = row.weight * F.cross_entropy(logits[:-1].float(), targets, ignore_index=IGNORED)
        of_row = torch.autograd.grad(loss, list(parameters), allow_unused=True)
        gradients = [torch.zeros_like(p) if g is None else g.float() for p, g in zip(parameters, of_row, strict=True)]
        total = gradients if total is None else [sums.add_(more) for sums, more in zip(total, gradients, strict=True)]
    return [torch.zeros_like(p, dtype=torch.float32) for p in parameters] if total is None else total
