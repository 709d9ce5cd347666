# SPDX-License-Identifier: Apache-2.0
"""Watching tensors while a training runs: a few elements of each in every step, all of them now and then.

What is looked at is the first elements of a tensor and a stretch that lies elsewhere in each step, where a secret key
puts it. Looking costs the same for a large tensor as for a small one; what happens to all of a tensor is seen at once,
what happens to a few of its elements sooner or later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from reticent.privacy.check import GuaranteeViolated
from reticent.privacy.sampling import words

FIRST = 64
"""Elements that are looked at at the beginning."""
LEAST, MOST, TOGETHER = 256, 4096, 2**16
"""Elements in a stretch that moves, and about how many there are in those of all tensors."""

_AT_ONCE = 2**22

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class WatchPoints:
    """Where tensors are looked at.

    Args:
        spans: for each tensor the stretches of its elements, from and to, in the order of its flat form.
    """

    spans: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def counts(self) -> list[int]:
        """How many elements of each tensor are looked at; the same in every step."""
        return [sum(stop - start for start, stop in of_one) for of_one in self.spans]

    def tensor_of(self, element: int) -> int:
        """Number of the tensor that the watched element of that number is of."""
        return int(np.searchsorted(np.cumsum(self.counts), element, side="right"))

    def of(self, tensors: Sequence[torch.Tensor]) -> Floats:
        """Their elements at these places, one tensor behind the other."""
        parts: list[torch.Tensor] = []
        for tensor, of_one in zip(tensors, self.spans, strict=True):
            flat = tensor.detach().reshape(-1)
            parts += [flat[start:stop] for start, stop in of_one]
        if not parts:
            return np.zeros(0)
        alike = len({(part.device, part.dtype) for part in parts}) == 1
        values: Floats = torch.cat(parts if alike else [part.double().cpu() for part in parts]).double().cpu().numpy()
        return values


def places(sizes: Sequence[int], key: bytes, step: int) -> WatchPoints:
    """Where tensors of these ``sizes`` are looked at in a step; all of what is small."""
    drawn = words(key, "watch", step, count=len(sizes)).tolist() if sizes else []
    moving = stretch(len(sizes))
    spans: list[tuple[tuple[int, int], ...]] = []
    for size, word in zip(sizes, drawn, strict=True):
        if size <= FIRST + moving:
            spans.append(((0, size),))
        else:
            start = FIRST + word % (size - FIRST - moving + 1)
            spans.append(((0, FIRST), (start, start + moving)))
    return WatchPoints(spans=tuple(spans))


def stretch(tensors: int) -> int:
    """How long the stretch that moves is, where there are so many tensors.

    >>> stretch(20), stretch(272)
    (3276, 256)
    """
    return max(LEAST, min(MOST, TOGETHER // max(1, tensors)))


class Weights:
    """Checks that trained weights change in the optimizer's step only, and frozen ones and buffers never.

    ``stamp`` remembers elements of all of them; ``unmoved`` says whether they still are what they were. Of what is
    frozen there is a sum of all bits too, which a change of a single element changes.

    Args:
        model: the model that is trained.
        key: 32 secret bytes.
    """

    def __init__(self, model: nn.Module, key: bytes) -> None:
        self.key = key
        parameters = list(model.named_parameters())
        saved = model.state_dict(keep_vars=True)
        self.trained = {name: p for name, p in parameters if p.requires_grad}
        self.frozen: dict[str, torch.Tensor] = {name: p for name, p in parameters if not p.requires_grad}
        self.frozen |= {name: buffer for name, buffer in model.named_buffers() if name in saved}
        self.sums = {name: bits(tensor) for name, tensor in self.frozen.items()}
        self.stamp(0)

    def stamp(self, step: int) -> None:
        """Remember all as they are, at the places of that step."""
        self.places = [places([t.numel() for t in of.values()], self.key, step) for of in (self.trained, self.frozen)]
        self.seen = [where.of(list(of.values())) for where, of in zip(self.places, self._both, strict=True)]

    def unmoved(self, *, trained: bool) -> None:
        """All, or only what is frozen, is as it was at the last ``stamp``.

        Raises:
            GuaranteeViolated: something has changed.
        """
        for number, (of, where, before) in enumerate(zip(self._both, self.places, self.seen, strict=True)):
            if number == 0 and not trained:
                continue
            same = where.of(list(of.values())) == before
            if not (same | np.isnan(before)).all():
                name = list(of)[where.tensor_of(int(np.argmin(same | np.isnan(before))))]
                _changed(name, "outside of the optimizer's step" if number == 0 else "though nothing may change it")

    def whole(self) -> None:
        """All that is frozen is as it was at the beginning, to the last bit.

        Raises:
            GuaranteeViolated: something has changed.
        """
        for name, tensor in self.frozen.items():
            if bits(tensor) != self.sums[name]:
                _changed(name, "though nothing may change it")

    @property
    def _both(self) -> tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]]:
        return self.trained, self.frozen


def bits(tensor: torch.Tensor) -> int:
    """The sum of the bits of a tensor, read as integers; another one if a single element is another."""
    flat = tensor.detach().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    # A part at a time, as on a CPU the sum copies what it adds up.
    parts = torch.split(flat.view(kinds[flat.element_size()]), _AT_ONCE)
    return sum(int(part.sum(dtype=torch.int64).item()) for part in parts)


def _changed(name: str, how: str) -> None:
    raise GuaranteeViolated(
        "only noised gradients change the model",
        f"{name} changed {how}",
        "Whatever wrote to it may have written what it saw of the data, and no noise covers that.",
    )
