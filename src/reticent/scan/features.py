# SPDX-License-Identifier: Apache-2.0
"""FeatureVector: named numbers of one suspect, which only have a meaning beside those of clean models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureVector:
    """Numbers that a scanner reads off a suspect.

    Args:
        names: of the numbers, unique; two suspects can be compared where they are the same.
        values: ``[F]`` float64, finite.

    Raises:
        ValueError: lengths differ, a name is there twice, or a number is not finite.

    Examples:
        >>> FeatureVector(names=("norm",), values=np.array([0.5])).values.tolist()
        [0.5]
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.values) or len(set(self.names)) != len(self.names):
            raise ValueError(f"{len(self.names)} names for {len(self.values)} numbers, or one name for two")
        if not np.isfinite(self.values).all():
            raise ValueError("features must be finite")
