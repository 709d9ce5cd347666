# SPDX-License-Identifier: Apache-2.0
"""Marks of what a field of results may hold, beside its type: `reticent.core.codec` reads and writes by them, and
`reticent.core.json_schema` makes the schema of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

FLAT = {"flat": True}
"""``metadata`` of a field that is a dataclass whose fields stand in the object around it."""


@dataclass(frozen=True)
class InRange:
    """A number that is at least ``least`` and at most ``most``, or strictly between ``above`` and ``below``."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """True where ``value`` does."""
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True)
class NullIs:
    """A number that may be one infinity, which JSON writes as ``null``."""

    value: float


class OneOf:
    """Text that is one of ``names``: a closed vocabulary that other modules need not spell as a ``Literal``."""

    def __init__(self, *names: str) -> None:
        self.names = names


@dataclass(frozen=True)
class AtLeast:
    """An array of no fewer than ``length``."""

    length: int


SORTED = "sorted"
"""Mark of a free-form object whose keys are written in alphabetical order."""

Share = Annotated[float, InRange(least=0, most=1)]
Count = Annotated[int, InRange(least=0)]
FreeForm = Annotated[dict[str, Any], SORTED]
Lower = Annotated[float, NullIs(-math.inf)]
Upper = Annotated[float, NullIs(math.inf)]
