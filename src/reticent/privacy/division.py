# SPDX-License-Identifier: Apache-2.0
"""Trained parameters whose rows are divided over processes, as the self-check of one of them has to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from reticent.privacy.noise import Stretch

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Division:
    """A process's parts of the trained parameters, and its way to learn of the rest.

    Args:
        numbers: for each parameter of which it holds a part, the number of the whole one among all that are trained,
            in the order of the model. The noise follows from it.
        stretches: where the part lies in the whole.
        count: how many parameters are trained.
        processes: how many share them.
        add: the sum of ``[count]`` numbers over all processes, which call it together.
    """

    numbers: Mapping[nn.Parameter, int]
    stretches: Mapping[nn.Parameter, Stretch]
    count: int
    processes: int
    add: Callable[[Floats], Floats]

    def lengths(self, mine: Mapping[nn.Parameter, float]) -> Floats:
        """``[count]`` lengths of whole tensors, from those of the parts that are held here."""
        squares = np.zeros(self.count)
        for parameter, length in mine.items():
            squares[self.numbers[parameter]] = length**2
        return np.sqrt(self.add(squares))
