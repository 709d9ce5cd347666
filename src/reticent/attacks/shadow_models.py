# SPDX-License-Identifier: Apache-2.0
"""ShadowScores: what the target and ``K`` shadow models say of each text, and which of these models were trained on it.

The only number that is kept of a text and a model is the mean log-probability of the text's trained tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

SEPARATE = 32
"""Models on a side from which on each text has a spread of its own: below it, what is learned of the spread of one text
is worse than taking it from all texts (Carlini et al. 2022 below 64 models, of which half saw the text)."""
LEAST_SPREAD = 1e-6
LARGEST = -1e-7
"""The largest mean log-probability that is scaled; a text of which a model is certain would be at infinity."""


def same(values: Floats) -> Floats:
    """The statistic as it is."""
    return values


def logit(mean_logp: Floats) -> Floats:
    """``log(p / (1 - p))`` of the geometric mean ``p`` of a text's token probabilities.

    The log-probability ends at 0, where texts that a model knows by heart crowd, and their distribution over models is
    far from a Gaussian; this scale has no end (Carlini et al. 2022 scale the confidence in the right class so). Where
    ``p`` is small, as of texts that are not known by heart, it is the log-probability itself.
    """
    below = np.minimum(mean_logp, LARGEST)
    return below - np.log(-np.expm1(below))


@dataclass(frozen=True, kw_only=True, eq=False)
class ShadowScores:
    """``N`` texts and ``K`` shadow models. Nothing in it says whether the target was trained on a text.

    Args:
        target: ``[N]`` mean log-probability (nats a token) under the target.
        shadows: ``[N, K]`` the same under each shadow model.
        inside: ``[N, K]`` bool: the shadow model was trained on the text.
        whole: all texts that these ones are of. What too few models say of one text is taken from them: spreads, and
            how much training on a text lifts it. None: these are all.
    """

    target: Floats
    shadows: Floats
    inside: npt.NDArray[np.bool_]
    whole: ShadowScores | None = None

    def __post_init__(self) -> None:
        if self.shadows.shape != self.inside.shape or len(self.target) != len(self.shadows):
            raise ValueError("target [N], shadows [N, K] and inside [N, K] do not fit each other")

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> ShadowScores:
        """The given texts; what is taken from all of them stays the same."""
        return replace(
            self,
            target=self.target[rows],
            shadows=self.shadows[rows],
            inside=self.inside[rows],
            whole=self.of_all,
        )

    @property
    def of_all(self) -> ShadowScores:
        return self if self.whole is None else self.whole

    @property
    def one_sided(self) -> npt.NDArray[np.bool_]:
        """``[N]``: all models were trained on the text, or none."""
        runs = self.inside.sum(axis=1)
        return np.asarray((runs == 0) | (runs == self.inside.shape[1]))

    def means(self, of: Statistic = same, then: Statistic = same) -> tuple[Floats, Floats]:
        """``then(mean of of(shadows))`` over the models that were trained on the text and over those that were not,
        ``[N]`` each.

        Of a text that is one-sided, what is missing is put at the mean distance that both have over all other texts.
        """
        inside, outside = self._both(of, then)
        other_in, other_out = self.of_all._both(of, then)
        distance = other_in - other_out
        usable = ~np.isnan(distance)
        shift = float(distance[usable].mean()) if usable.any() else 0.0
        filled_in = np.where(np.isnan(inside), outside + shift, inside)
        return filled_in, np.where(np.isnan(outside), filled_in - shift, outside)

    def spreads(self, of: Statistic = same) -> tuple[Floats, Floats]:
        """Standard deviation of ``of(shadows)`` over the models with and without the text, ``[N]`` each: the text's own
        from ``SEPARATE`` models on, else one that all texts share."""
        sides = []
        everything = self.of_all
        pooled = [_pooled(of(everything.shadows), side) for side in (everything.inside, ~everything.inside)]
        for side, shared, other in zip((self.inside, ~self.inside), pooled, reversed(pooled), strict=True):
            shared = other if np.isnan(shared) else shared
            runs, _, squares = _moments(of(self.shadows), side)
            separate = np.sqrt(squares / np.maximum(runs - 1, 1))
            spread = np.where(runs >= SEPARATE, separate, 0.0 if np.isnan(shared) else shared)
            sides.append(np.maximum(spread, LEAST_SPREAD))
        return sides[0], sides[1]

    def _both(self, of: Statistic, then: Statistic) -> tuple[Floats, Floats]:
        values = of(self.shadows)
        return then(_moments(values, self.inside)[1]), then(_moments(values, ~self.inside)[1])


def _moments(values: Floats, side: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """``[N]`` models on a side, their mean (NaN where there is none) and the sum of squares around it."""
    runs = side.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(side, values, 0.0).sum(axis=1) / runs
    squares = np.where(side, (values - mean[:, None]) ** 2, 0.0).sum(axis=1)
    return runs, mean, squares


def _pooled(values: Floats, side: npt.NDArray[np.bool_]) -> float:
    """Standard deviation around each text's own mean, of all texts together; NaN where none has two models."""
    runs, _, squares = _moments(values, side)
    degrees = int(np.maximum(runs - 1, 0).sum())
    return float(np.sqrt(squares.sum() / degrees)) if degrees else float("nan")
