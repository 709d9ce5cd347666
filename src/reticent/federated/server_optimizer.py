# SPDX-License-Identifier: Apache-2.0
"""The server's step: what is added to the global arrays, from a round's aggregate and the moments of earlier ones.

All that it reads is the aggregate as it left the round, noised where something is promised, so whatever it does costs
no further ε. It is a function: the moments go in and come out, and nothing is kept.

============  ===================================================================================================
``fedavg``    m ← β·m + mean; change = η·m. With β = 0 and η = 1 the mean itself (McMahan et al. 2017,
              arXiv:1602.05629; momentum after Hsu et al. 2019, arXiv:1909.06335)
``fedadam``   m ← .9·m + .1·mean; v ← .99·v + .01·mean²; change = η·m / (√v + τ), v beginning at τ², without
              correction for the beginning (Reddi et al. 2021, arXiv:2003.00295, Algorithm 2)
============  ===================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.federated.update import Update

FEDAVG, FEDADAM = "fedavg", "fedadam"
NAMES = (FEDAVG, FEDADAM)
FIRST, SECOND = 0.9, 0.99
"""The share of the moments of fedadam that is kept."""
LEAST = 1e-3
"""τ of fedadam, which the root of the second moment is kept above; the paper's choice."""
Arrays = dict[str, torch.Tensor]


class ServerSettings(Protocol):
    """The settings of a federation that its server's step follows from."""

    @property
    def server_optimizer(self) -> str:
        """Of `NAMES`."""
        ...

    @property
    def server_rate(self) -> float:
        """η."""
        ...

    @property
    def server_momentum(self) -> float:
        """β."""
        ...


@dataclass(frozen=True, kw_only=True)
class ServerOptimizer:
    """A server's step.

    Args:
        name: "fedavg" or "fedadam".
        learning_rate: η.
        momentum: β of fedavg, in [0, 1).
        least: τ of fedadam, in the units of an update.

    Raises:
        BadInput: a number out of range, or a momentum for fedadam.

    Examples:
        >>> server = ServerOptimizer(learning_rate=1.0, momentum=0.5)
        >>> moments, change = server({}, {"a": torch.tensor([2.0])})
        >>> server(moments, {"a": torch.tensor([0.0])})[1]
        {'a': tensor([1.])}
    """

    name: str = FEDAVG
    learning_rate: float = 1.0
    momentum: float = 0.0
    least: float = LEAST

    def __post_init__(self) -> None:
        validate.one_of(NAMES, server_optimizer=self.name)
        validate.positive(server_learning_rate=self.learning_rate, least=self.least)
        if not 0 <= self.momentum < 1:
            raise BadInput(f"server_momentum={self.momentum!r}", "must be at least 0 and below 1", "Give 0.9 or less.")
        if self.momentum and self.name == FEDADAM:
            raise BadInput(f"server_momentum={self.momentum!r}", "fedadam has moments of its own", "Leave it out.")

    @classmethod
    def of(cls, settings: ServerSettings) -> ServerOptimizer:
        """The step that a federation's settings ask for."""
        return cls(
            name=settings.server_optimizer, learning_rate=settings.server_rate, momentum=settings.server_momentum
        )

    def __call__(self, moments: Arrays, mean: Update) -> tuple[Arrays, Arrays]:
        """New moments, and what is added to the global arrays.

        Args:
            moments: of the step before, by "first/NAME" and "second/NAME"; empty before the first.
            mean: the aggregate of the round, as it left it.
        """
        if self.name == FEDADAM:
            return self._adam(moments, mean)
        if not self.momentum:
            return {}, {name: array * self.learning_rate for name, array in mean.items()}
        first = {
            name: _of(moments, f"first/{name}", array, 0.0) * self.momentum + array for name, array in mean.items()
        }
        change = {name: array * self.learning_rate for name, array in first.items()}
        return {f"first/{name}": array for name, array in first.items()}, change

    def _adam(self, moments: Arrays, mean: Update) -> tuple[Arrays, Arrays]:
        after: Arrays = {}
        change: Arrays = {}
        for name, array in mean.items():
            first = _of(moments, f"first/{name}", array, 0.0) * FIRST + array * (1 - FIRST)
            second = _of(moments, f"second/{name}", array, self.least**2) * SECOND + array.square() * (1 - SECOND)
            after |= {f"first/{name}": first, f"second/{name}": second}
            change[name] = self.learning_rate * first / (second.sqrt() + self.least)
        return after, change


def _of(moments: Arrays, name: str, like: torch.Tensor, begin: float) -> torch.Tensor:
    return moments[name] if name in moments else torch.full_like(like, begin)
