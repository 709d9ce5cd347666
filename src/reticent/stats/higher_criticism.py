# SPDX-License-Identifier: Apache-2.0
"""Higher criticism: is there a small share of units, nobody knows which, that does not follow the null?

    HC = max over i ≤ N·share of  √N · (i/N − p_(i)) / √(p_(i) (1 − p_(i))),  with p raised to 1/N at least

Its published limits are for independent p-values. p-values that share one null sample are not, so the distribution of
HC comes from exchanging units and null scores, under which the dependence is kept exactly as it is: each test here is
exact at any size where units and nulls can be exchanged.

Source: Donoho and Jin, Annals of Statistics 32 (2004), 962-994, doi:10.1214/009053604000000265.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.core.validate import in_range, positive, same_length
from reticent.stats.conformal import clustered_p_values, owners, paired_p_values
from reticent.stats.hypothesis import p_values
from reticent.stats.scores import Floats, as_scores

PValues: TypeAlias = Callable[[Floats, Floats], Floats]
"""``p_values(scores [N], null [M])``: ``[N]``."""
DRAWS = 999
SHARE = 0.25
"""The largest share of outliers that is looked for; higher ones show in the mean."""
_SAME = 1e-9
"""Statistics that differ by less are tied: sums of shares come out otherwise in another order."""


def higher_criticism(p: ArrayLike, *, share: float = SHARE) -> float:
    """The statistic: the largest excess of small p-values, in standard deviations. At least 0.

    Args:
        p: ``[N]`` p-values.
        share: of the smallest that are looked at.

    Examples:
        >>> higher_criticism([0.9, 0.95, 1.0])
        0.0
        >>> round(higher_criticism([0.1, 0.1, 0.1, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0], share=0.5), 2)
        2.11
    """
    in_range(0, 1, share=share)
    n = len(as_scores(p, name="p"))
    ordered = np.sort(np.maximum(np.asarray(p, dtype=np.float64), 1 / n))
    rank = np.arange(1, n + 1) / n
    looked_at = (rank <= max(share, 1 / n)) & (ordered < 1)
    if not looked_at.any():
        return 0.0
    p_at, rank_at = ordered[looked_at], rank[looked_at]
    excess = np.sqrt(n) * (rank_at - p_at) / np.sqrt(p_at * (1 - p_at))
    return max(0.0, float(excess.max()))


def paired_global_p(
    scores: ArrayLike,
    null: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    p_of: PValues = paired_p_values,
    allowance: float = 1.0,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """p-value of "no unit is worse than its null score", by swapping unit and null score within pairs.

    Exact where each unit could be exchanged with its null score, whatever the units' distributions are. Units of one
    cluster are swapped together.

    Args:
        scores: ``[N]``, higher is worse.
        null: ``[N]``, of the same units.
        cluster: ``[N]`` user of each unit; None where units are independent.
        p_of: turns scores and nulls into p-values.
        allowance: at least 1; the p-values of the units as they are, not of swaps, are multiplied by it. It allows for
            units that reach into the tail of the null so many times as often as the null itself, for a harmless reason.
        draws: of swaps; the result is never below ``1 / (draws + 1)``.
        seed: of the swaps.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> noise = rng.normal(size=(2, 200))
        >>> paired_global_p(noise[0] + 4 * (np.arange(200) < 20), noise[1], draws=99)
        0.01
    """
    positive(draws=draws, allowance=allowance)
    x, y = as_scores(scores, name="scores"), as_scores(null, name="null")
    same_length(scores=x, null=y)
    owner = owners(len(x), cluster)
    same_length(scores=x, cluster=owner)
    rng = np.random.default_rng(seed)
    observed, reached = higher_criticism(np.minimum(1.0, allowance * p_of(x, y))) - _SAME, 0
    for _ in range(draws):
        swap = (rng.random(int(owner.max()) + 1) < 0.5)[owner]
        reached += higher_criticism(p_of(np.where(swap, y, x), np.where(swap, x, y))) >= observed
    return (1 + reached) / (1 + draws)


def pooled_global_p(
    scores: ArrayLike,
    null: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    null_cluster: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """p-value of "all units are like those of the null", by drawing anew which scores are the null's.

    Exact where scores of both groups are independent draws of one distribution, or clusters of scores are: those are
    drawn as a whole. Never below ``1 / (draws + 1)``.

    Args:
        scores: ``[N]``, higher is worse.
        null: ``[M]``, of other units.
        cluster: ``[N]`` user of each unit; None where units are independent.
        null_cluster: ``[M]`` the same of the null's units, who are other users.
        draws: of labels.
        seed: of the labels.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> pooled_global_p(rng.normal(size=100), rng.normal(size=300), draws=99) > 0.05
        True
    """
    positive(draws=draws)
    x, y = as_scores(scores, name="scores"), as_scores(null, name="null")
    of_scores, of_null = owners(len(x), cluster), owners(len(y), null_cluster)
    same_length(scores=x, cluster=of_scores)
    same_length(null=y, null_cluster=of_null)
    pool, owner = np.concatenate([x, y]), np.concatenate([of_scores, of_scores.max() + 1 + of_null])
    clusters, tested = int(owner.max()) + 1, int(of_scores.max()) + 1

    def statistic(number: NDArray[np.intp]) -> float:
        is_tested = number[owner] < tested
        return higher_criticism(clustered_p_values(pool[is_tested], pool[~is_tested], owner[~is_tested]))

    rng = np.random.default_rng(seed)
    observed = statistic(np.arange(clusters)) - _SAME
    reached = sum(statistic(rng.permutation(clusters)) >= observed for _ in range(draws))
    return (1 + reached) / (1 + draws)


def smallest_share(
    units: int, smallest_p: float, *, level: float, power: float = 0.8, draws: int = 199, seed: int = 0
) -> float:
    """The smallest share of units, all with the smallest p-value there can be, that the global test sees.

    By simulation from the null: ranks of ``units`` scores among ``1 / smallest_p - 1`` null scores that they share.

    Args:
        units: tested together.
        smallest_p: that a unit can have.
        level: of the global test.
        power: chance to see it.
        draws: of the simulation.
        seed: of the simulation.

    Returns:
        in (0, 1]; 1 where not even all of them would be seen.

    Examples:
        >>> 0.001 < smallest_share(500, 1 / 500, level=0.05, draws=99) < 0.05
        True
    """
    in_range(0, 1, level=level, power=power, smallest_p=smallest_p)
    rng = np.random.default_rng(seed)
    nulls = max(1, round(1 / smallest_p) - 1)
    samples = [p_values(rng.random(units), rng.random(nulls)) for _ in range(draws)]
    limit = float(np.quantile([higher_criticism(p) for p in samples], 1 - level))
    low, high = 0, units

    def seen(count: int) -> bool:
        planted = [np.concatenate([np.full(count, smallest_p), p[count:]]) for p in samples]
        return bool(np.mean([higher_criticism(p) > limit for p in planted]) >= power)

    if not seen(units):
        return 1.0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high / units
