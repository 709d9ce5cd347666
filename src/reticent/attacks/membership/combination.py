# SPDX-License-Identifier: Apache-2.0
"""Learned combination: what an attacker gains who calibrates all attacks together on records of known membership.

The strongest attacker here: they hold labelled records of the same source. No score comes from a model that saw the
record's label, or a label of its user.

A linear discriminant (Fisher, doi:10.1111/j.1469-1809.1936.tb02137.x) rather than a logistic one: it is as good on
ranks, and so cheap that it can be learned anew for every re-thrown coin, which is what makes its p-value exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores, attack
from reticent.core import validate
from reticent.core.errors import BadInput

Labels = npt.NDArray[np.bool_]

RIDGE = 0.1
"""Strength of the ridge, in parts of the mean variance of the attacks: scores of one kind differ by noise only."""


class Half(NamedTuple):
    """One half of the records: what the discriminant is learned from."""

    rows: npt.NDArray[np.intp]
    """Records."""
    features: Scores
    """``[n, A]`` ranks, less the mean of the stratum."""
    spread: Scores
    """``[A, A]`` their cross products. No label is in it."""
    solver: Scores
    """``[A, A]`` inverse of ``spread`` with its ridge."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Combination:
    """A discriminant of ``A`` attacks on ``N`` records, learned on either half for the other.

    Args:
        ranks: ``[N, A]`` of each attack, on (-1, 1).
        first, second: the halves.
    """

    ranks: Scores
    first: Half
    second: Half

    @property
    def in_second(self) -> Labels:
        """``[N]``, which half the record is in. Judge each half by itself (`stats.cross_fitting.mean_of`): an interval
        of the pooled scores is too narrow, for a chance pattern that both halves share lifts both."""
        mask = np.zeros(len(self.ranks), dtype=bool)
        mask[self.second.rows] = True
        return mask

    def scores(self, member: Labels) -> Scores:
        """``[N]``, in standard deviations of the record's half; higher = member."""
        out = np.empty(len(self.ranks))
        for learned, judged in self._ways():
            direction = learned.solver @ (learned.features.T @ member[learned.rows])
            score = self.ranks[judged.rows] @ direction
            out[judged.rows] = (score - score.mean()) / (score.std() or 1.0)
        return out

    def statistics(self, labels: npt.NDArray[np.floating]) -> Scores:
        """``[D]``: how far apart the other half's members and held-out lie, for each column of labels ``[N, D]``.

        The sum over both halves of the covariance of label and score, in standard deviations of the score: larger
        leaks more. Halves and ranks know no label, so the real labels are exchangeable with re-thrown ones.
        """
        slopes = {id(half): half.features.T @ labels[half.rows] for half in (self.first, self.second)}
        total = np.zeros(labels.shape[1])
        for learned, judged in self._ways():
            direction = learned.solver @ slopes[id(learned)]
            spread = np.sqrt(np.maximum(np.einsum("ad,ab,bd->d", direction, judged.spread, direction), 1e-30))
            total += np.einsum("ad,ad->d", direction, slopes[id(judged)]) / spread
        return total

    def _ways(self) -> tuple[tuple[Half, Half], tuple[Half, Half]]:
        return (self.first, self.second), (self.second, self.first)


@attack("combination", unit="record", returns="score", access="logits", paper="doi:10.1111/j.1469-1809.1936.tb02137.x")
def combined(scores: Scores, member: Labels, user: npt.NDArray[np.object_] | None = None) -> Scores:
    """All record attacks weighed by an attacker who knows the membership of other records.

    `combination`, learned on either half of the owners for the other.

    Args:
        scores: of all record attacks that learn from no label; no NaN.
        member: labels; none of its own half is looked at for a record's score.
        user: owners, whose records stay in one half.

    Returns ``[N]``, in standard deviations of the record's half, higher = member.
    """
    return combination(scores, user).scores(np.asarray(member, dtype=bool))


def combination(
    scores: Scores,
    owner: npt.NDArray[np.object_] | None = None,
    stratum: npt.NDArray[np.intp] | None = None,
    *,
    seed: int = 0,
) -> Combination:
    """Prepare to learn one score from many.

    Each column is replaced by its ranks, so that scale and outliers of an attack do not matter. No label is looked at.

    Args:
        scores: ``[N, A]``, one column for each record attack; no NaN.
        owner: ``[N]``; all records of an owner fall in the same half. None: each record is on its own.
        stratum: ``[N]`` within which labels are traded (`stats.relabel.Design`); None: all with all.
        seed: of the halves.

    Raises:
        BadInput: NaN among the scores, arrays that do not fit, or fewer than two owners.

    >>> rng = np.random.default_rng(0)
    >>> member = rng.random(400) < 0.5
    >>> found = combination(rng.normal(size=(400, 3)) + member[:, None])
    >>> score = found.scores(member)
    >>> bool((score[member].mean() - score[~member].mean()) > 1)
    True
    """
    if np.isnan(scores).any():
        raise BadInput("scores", f"{np.isnan(scores).any(axis=1).sum()} records have NaN", "Drop those records first.")
    count = len(scores)
    owners = np.arange(count) if owner is None else np.unique(owner.astype(str), return_inverse=True)[1]
    strata = np.zeros(count, dtype=np.intp) if stratum is None else stratum
    validate.same_length(scores=scores, owner=owners, stratum=strata)
    of = int(owners.max(initial=-1)) + 1
    if of < 2:
        raise BadInput("owner", f"there are {of} owners", "Give records of two owners at least.")
    second = (np.random.default_rng(seed).permutation(of) >= (of + 1) // 2)[owners]
    ranks = _ranks(np.asarray(scores, dtype=np.float64))
    return Combination(ranks=ranks, first=_half(ranks, strata, ~second), second=_half(ranks, strata, second))


def _half(ranks: Scores, strata: npt.NDArray[np.intp], which: Labels) -> Half:
    rows = np.flatnonzero(which)
    number = np.unique(strata[rows], return_inverse=True)[1]
    sums = np.zeros((number.max(initial=0) + 1, ranks.shape[1]))
    np.add.at(sums, number, ranks[rows])
    features = ranks[rows] - (sums / np.bincount(number)[:, None])[number]
    spread = features.T @ features
    ridge = RIDGE * max(float(np.trace(spread)) / len(spread), 1e-12)
    solver = np.asarray(np.linalg.inv(spread + ridge * np.eye(len(spread))), dtype=np.float64)
    return Half(rows=rows, features=features, spread=spread, solver=solver)


def _ranks(scores: Scores) -> Scores:
    """Ranks of each column on (-1, 1), ties in the middle."""
    ranks = np.empty_like(scores)
    for column in range(scores.shape[1]):
        _, where, counts = np.unique(scores[:, column], return_inverse=True, return_counts=True)
        ranks[:, column] = (np.cumsum(counts) - counts / 2)[where]
    return 2 * ranks / len(scores) - 1
