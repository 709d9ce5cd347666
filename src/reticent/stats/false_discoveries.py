# SPDX-License-Identifier: Apache-2.0
"""Sets of discoveries among many tests, of which on average at most a stated share is false.

Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995), 289-300,
doi:10.1111/j.2517-6161.1995.tb02031.x. Conformal p-values that share one null sample depend on each other positively
(Bates et al. 2023, theorem 2), under which it stays valid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.core.errors import BadInput
from reticent.core.validate import in_range
from reticent.stats.scores import Floats, as_scores


@dataclass(frozen=True, kw_only=True, eq=False)
class DiscoverySet:
    """The outcome of Benjamini and Hochberg's rule.

    Args:
        chosen: ``[N]`` bool.
        adjusted: ``[N]`` smallest level at which each would be chosen.
        level: expected share of false ones among the chosen, at most.
        limit: the largest p-value that was chosen; 0 where none was.
    """

    chosen: NDArray[np.bool_]
    adjusted: Floats
    level: float
    limit: float

    @property
    def count(self) -> int:
        """Chosen ones."""
        return int(self.chosen.sum())


def benjamini_hochberg(p_values: ArrayLike, level: float) -> DiscoverySet:
    """Choose as many of the smallest p-values as the level allows.

    Args:
        p_values: ``[N]``.
        level: expected share of false discoveries among the chosen, in (0, 1).

    Raises:
        BadInput: no p-values, or some outside [0, 1].

    Examples:
        >>> outcome = benjamini_hochberg([0.01, 0.9, 0.04, 0.03], level=0.1)
        >>> outcome.chosen.tolist(), outcome.count, round(outcome.limit, 2)
        ([True, False, True, True], 3, 0.04)
    """
    in_range(0, 1, level=level)
    p = as_scores(p_values, name="p_values")
    if not np.all((p >= 0) & (p <= 1)):
        raise BadInput("p_values", "some lie outside [0, 1]", "Give probabilities.")
    order = np.argsort(p, kind="stable")
    stepped = np.minimum.accumulate((p[order] * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    chosen = adjusted <= level * (1 + 1e-12)
    return DiscoverySet(
        chosen=chosen, adjusted=adjusted, level=level, limit=float(p[chosen].max()) if chosen.any() else 0.0
    )


def smallest_discovery(units: int, smallest_p: float, level: float) -> int:
    """The fewest units that can be chosen together, where no p-value can be smaller than ``smallest_p``.

    ``k`` of them are chosen at ``smallest_p <= k·level / units``. A smaller group is not seen however far it lies from
    the null; a result above ``units`` means that nothing can be seen.

    Examples:
        >>> smallest_discovery(2000, 1 / 2000, 0.1), smallest_discovery(2000, 1 / 101, 0.1)
        (10, 199)
    """
    in_range(0, 1, level=level)
    return max(1, math.ceil(units * smallest_p / level - 1e-9))
