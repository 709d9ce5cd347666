# SPDX-License-Identifier: Apache-2.0
"""Continuations: what one model writes after the beginning of each record, beside how the record goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, eq=False)
class Continuations:
    """Texts that one model wrote about ``N`` records. They hold private text: keep them in the run folder or the cache.

    Args:
        rest: ``[N]`` how each record goes on; empty where it has no place to be cut at.
        texts: ``[N]`` the samples of each, as many for each record; none where ``rest`` is empty.

    Examples:
        >>> Continuations(rest=["is late."], texts=[["is late.", "was torn."]]).rest
        ['is late.']
    """

    rest: Sequence[str]
    texts: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        if len(self.rest) != len(self.texts):
            raise ValueError("every record needs its continuations")

    def __len__(self) -> int:
        return len(self.rest)

    def take(self, rows: npt.NDArray[np.int64]) -> Continuations:
        """The given records."""
        return Continuations(rest=[self.rest[row] for row in rows], texts=[self.texts[row] for row in rows])
