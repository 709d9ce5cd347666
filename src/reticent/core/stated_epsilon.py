# SPDX-License-Identifier: Apache-2.0
"""StatedEpsilon: a promised ε with all that gives it a meaning, as tables and pictures show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from reticent.core.composed_epsilon import rounded_up
from reticent.core.field_types import InRange

DONE = {"add_or_remove": "add or remove", "zero_out": "zero out", "replace_one": "replace"}
"""The change of a unit between neighbouring data sets, in words."""


@dataclass(frozen=True, kw_only=True)
class StatedEpsilon:
    """An upper bound.

    Args:
        epsilon: in nats.
        delta: of that ε.
        unit: that is protected, such as "record" or "user".
        relation: what neighbouring data sets differ by, such as "add_or_remove".

    Examples:
        >>> StatedEpsilon(epsilon=8.0, delta=1e-5, unit="user", relation="add_or_remove").sentence
        'ε = 8.00 per user at δ = 1e-05 (add or remove one user)'
        >>> StatedEpsilon(epsilon=8.0, delta=1e-5, unit="user", relation="zero_out").meaning
        'per user at δ = 1e-05 (zero out one user)'
    """

    epsilon: Annotated[float, InRange(least=0)]
    delta: Annotated[float, InRange(least=0)]
    unit: str
    relation: str

    @property
    def sentence(self) -> str:
        """It in words; ε is rounded up."""
        return f"ε = {rounded_up(self.epsilon)} {self.meaning}"

    @property
    def meaning(self) -> str:
        """All but the number, for an axis or the head of a column."""
        change = DONE.get(self.relation, self.relation)
        return f"per {self.unit} at δ = {self.delta:.2g} ({change} one {self.unit})"
