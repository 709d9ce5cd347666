# SPDX-License-Identifier: Apache-2.0
"""Learned combination: what an attacker gains who calibrates all attacks together on records of known membership.

The strongest attacker here: they hold labelled records of the same source. No score comes from a model that saw the
record's label, or a label of its user. It is not in the registry, for it reads scores and labels, not tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Scores
from reticent.core import validate
from reticent.core.errors import BadInput

Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Combination:
    """Cross-fitted scores of ``N`` records, and the same made from labels that mean nothing.

    Args:
        score: ``[N]``, log-odds in standard deviations of the record's half, higher = member.
        second: ``[N]``, which half the record is in. Judge each half by itself (`stats.halves.mean_of`): an interval of
            the pooled scores is too narrow, for a chance pattern that both halves share lifts both.
        control_score: ``[N]``, the whole procedure run on permuted labels.
        control_member: ``[N]``, the permuted labels. The AUC of ``control_score`` against them must not be told from
            0.5; otherwise the procedure lets labels through and ``score`` must not be believed.
    """

    score: Scores
    second: Labels
    control_score: Scores
    control_member: Labels


def combine(
    scores: Scores,
    member: Labels,
    user: npt.NDArray[np.object_] | None = None,
    *,
    model: str = "logistic",
    seed: int = 0,
) -> Combination:
    """Learn one score from many, cross-fitted.

    Each column is first replaced by its ranks, so that scale and outliers of an attack do not matter; ranks use no
    label.

    Args:
        scores: ``[N, A]``, one column for each record attack; no NaN.
        member: ``[N]``.
        user: ``[N]``; all records of a user fall in the same half. None: each record is on its own.
        model: ``"logistic"`` or ``"boosting"`` (gradient-boosted trees, for attacks that matter only together).
        seed: of halves, permutation and trees.

    Raises:
        BadInput: NaN among the scores, arrays that do not fit, or fewer than two units on a side.
    """
    validate.one_of(("logistic", "boosting"), model=model)
    validate.same_length(scores=scores, member=member, user=member if user is None else user)
    if np.isnan(scores).any():
        raise BadInput("scores", f"{np.isnan(scores).any(axis=1).sum()} records have NaN", "Drop those records first.")
    groups = np.arange(len(member)) if user is None else np.unique(user.astype(str), return_inverse=True)[1]
    units = min(len(np.unique(groups[member])), len(np.unique(groups[~member])))
    if units < 2:
        raise BadInput("member", f"there are {units} units on the smaller side", "Give two of each side at least.")
    features = _ranks(np.asarray(scores, dtype=np.float64))
    permuted = np.random.default_rng(seed).permutation(np.asarray(member, dtype=bool))
    from reticent.stats.halves import halves  # scipy behind it takes a third of a second, and attacks are listed often

    second = halves(member, user, seed=seed)
    return Combination(
        score=_cross_fitted(features, np.asarray(member, dtype=bool), second, model, seed),
        second=second,
        control_score=_cross_fitted(features, permuted, second, model, seed),
        control_member=permuted,
    )


def _ranks(scores: Scores) -> Scores:
    """Ranks of each column on (-1, 1), ties in the middle."""
    ranks = np.empty_like(scores)
    for column in range(scores.shape[1]):
        _, where, counts = np.unique(scores[:, column], return_inverse=True, return_counts=True)
        ranks[:, column] = (np.cumsum(counts) - counts / 2)[where]
    return 2 * ranks / len(scores) - 1


def _cross_fitted(features: Scores, member: Labels, second: Labels, model: str, seed: int) -> Scores:
    """Standardised log-odds ``[N]``, each half by a model fitted on the other.

    Halves are standardised before they are put together. A record's label is in the model of the other half only, so
    that raw log-odds, compared across halves, come out below chance where there is nothing to find.
    """
    out = np.empty(len(member))
    for judged in (second, ~second):
        odds = _model(model, seed).fit(features[~judged], member[~judged]).decision_function(features[judged])
        out[judged] = (odds - odds.mean()) / (odds.std() or 1.0)
    return out


def _model(name: str, seed: int) -> Any:
    if name == "logistic":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(class_weight="balanced", max_iter=1000)
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        class_weight="balanced", max_depth=3, learning_rate=0.05, max_iter=100, early_stopping=False, random_state=seed
    )
