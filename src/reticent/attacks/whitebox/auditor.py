# SPDX-License-Identifier: Apache-2.0
"""A white-box auditor: learns from records of known membership what members look like inside the model.

After Parsing (Sun, Wu, Zhang, arXiv:2411.07070): an auditing set halved in two, an auditor trained on properties of
one half and judged on the other. Its objective, architecture and tables could not be had, so this is a reconstruction
and claims none of its numbers: a linear auditor or a small network, fitted by log-loss or by a pairwise surrogate of
the AUC, whichever does best within the half that it is fitted to. The attacks of this folder are this procedure on
properties of their own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]
Scorer = Callable[[Floats], Floats]
Learner = Callable[[Floats, Labels, int], Scorer]

FEWEST = 10
"""Fewer members, held-out records or owners than this in a half, and no auditor is made."""
_INNER = 3
"""Folds of the half that choose the learner."""
_FAR = 4.0
"""Properties are cut off at so many standard deviations, so that no single record decides a fit."""
OF_GRADIENTS = "gradient_"
"""How properties of the backward pass begin."""
_LENGTHS = ("hidden_norm", "hidden_moved", "gradient_norm")
_TINY = 1e-12
_PAIRS = 1 << 16
"""Pairs of a member and a held-out record that the pairwise objective sums over; more are drawn from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditorScores:
    """Scores of ``N`` records, none by an auditor that saw the record, its owner, or their labels.

    Args:
        score: ``[N]``, in standard deviations of the record's half; higher = member.
        member: ``[N]`` the labels that were learned (in a control, labels that mean nothing).
        second: ``[N]`` the half that the record is in. Judge each half by itself and take
            ``stats.cross_fitting.mean_of``: chance patterns that both halves share lift both, so an interval over all
            records together is too narrow.
        learners: what scored the first and the second half.
    """

    score: Floats
    member: Labels
    second: Labels
    learners: tuple[str, str]


def cross_audit(
    properties: Floats, member: Labels, user: npt.NDArray[np.object_] | None = None, *, seed: int = 0
) -> AuditorScores:
    """Train an auditor on each half and score the other half with it.

    Args:
        properties: ``[N, F]`` of the records, finite.
        member: ``[N]``.
        user: ``[N]``; a user's records stay in one half. None: every record is on its own.
        seed: of halves, folds and starting points.

    Raises:
        BadInput: properties that are not numbers, or arrays that do not fit.
        Underpowered: fewer than ``FEWEST`` members, held-out records or owners of them in a half.
    """
    from reticent.stats.cross_fitting import halves  # here: SciPy takes longer to load than the list of attacks may

    label = np.asarray(member, dtype=bool)
    owner = np.arange(len(label)) if user is None else np.unique(user.astype(str), return_inverse=True)[1]
    validate.same_length(properties=properties, member=label, user=owner)
    wide = np.asarray(properties, dtype=np.float64)
    if wide.ndim != 2 or not np.isfinite(wide).all():
        raise BadInput(
            f"properties of shape {wide.shape}", "are no finite [N, F] numbers", "Drop those records or properties."
        )
    second = halves(label, owner, seed=seed)
    _refuse_few(label, owner, second)
    score, learners = np.empty(len(label)), []
    for judged in (~second, second):
        fit = ~judged
        name, scorer = _fitted(wide[fit], label[fit], owner[fit], seed)
        output = scorer(wide[judged])
        score[judged] = (output - output.mean()) / (output.std() or 1.0)
        learners.append(name)
    return AuditorScores(score=score, member=label, second=second, learners=(learners[0], learners[1]))


def held_out_control(
    properties: Floats, member: Labels, user: npt.NDArray[np.object_] | None = None, *, seed: int = 0
) -> AuditorScores:
    """The same procedure between two halves of the held-out records, where there is nothing to find.

    Labels are drawn as membership was: for records where users have both members and held-out records, else for users.
    The AUC must not be told from 0.5; otherwise the halves differ in something else than membership, or labels leak
    through the procedure, and no auditor is to be believed. Arguments and errors as in ``cross_audit``; scores and
    labels are of the held-out records, in their order.
    """
    from reticent.stats.cross_fitting import halves

    outside = ~np.asarray(member, dtype=bool)
    owners = None if user is None else user[outside]
    mixed = user is not None and bool(set(user[outside].astype(str)) & set(user[~outside].astype(str)))
    called = halves(np.zeros(int(outside.sum()), dtype=bool), None if mixed else owners, seed=seed + 1)
    return cross_audit(np.asarray(properties)[outside], called, owners, seed=seed)


def as_matrix(columns: Mapping[str, Floats]) -> Floats:
    """``[N, F]`` of properties by name; lengths by their logarithm, as they spread over orders of magnitude."""
    return np.column_stack(
        [np.log(np.maximum(column, _TINY)) if name.startswith(_LENGTHS) else column for name, column in columns.items()]
    )


def auc_of(
    audited: AuditorScores, user: npt.NDArray[np.object_] | None = None, *, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """AUC of an auditor: the mean over the halves, users resampled whole where ``user`` is given. 0.5 is chance.

    Args:
        audited: of ``N`` records.
        user: ``[N]``.
        confidence: two-sided coverage, whatever the auditors of the two halves share.
        seed: of the resampling.
    """
    from reticent.stats.clustered import auc_clustered
    from reticent.stats.cross_fitting import confidence_of_each, mean_of
    from reticent.stats.roc import auc

    parts, level = [], confidence_of_each(confidence)
    for half in (~audited.second, audited.second):
        sides = half & audited.member, half & ~audited.member
        scores = [audited.score[side] for side in sides]
        if user is None:
            parts.append(auc(*scores, confidence=level))
        else:
            owners = [user[side].astype(str) for side in sides]
            parts.append(auc_clustered(*scores, *owners, confidence=level, seed=seed))
    return mean_of(parts, confidence=confidence)


# ---- learners -------------------------------------------------------------------------------------------------------


def logistic(properties: Floats, member: Labels, seed: int, *, weight: float) -> Scorer:
    """Linear, by log-loss with both sides weighed alike; ``weight`` is the inverse strength of the ridge."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=weight, class_weight="balanced", max_iter=1000).fit(properties, member)
    return lambda features: np.asarray(model.decision_function(features))


def pairwise(properties: Floats, member: Labels, seed: int, *, ridge: float) -> Scorer:
    """Linear ``g``, by ``mean over pairs of log(1 + exp(-(g(member) - g(held-out)))) + ridge/2 ‖w‖²``."""
    from scipy.optimize import minimize
    from scipy.special import expit

    inside, outside = properties[member], properties[~member]
    rng = np.random.default_rng(seed)
    if len(inside) * len(outside) <= _PAIRS:
        gaps = (inside[:, None] - outside[None]).reshape(-1, properties.shape[1])
    else:
        gaps = inside[rng.integers(len(inside), size=_PAIRS)] - outside[rng.integers(len(outside), size=_PAIRS)]

    def loss(w: Floats) -> tuple[float, Floats]:
        gap = gaps @ w
        slope = -(gaps.T @ expit(-gap)) / len(gap) + ridge * w
        return float(np.logaddexp(0, -gap).mean() + ridge / 2 * w @ w), slope

    optimum = minimize(loss, np.zeros(properties.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return lambda at: np.asarray(at @ optimum.x)


def network(properties: Floats, member: Labels, seed: int, *, width: int = 8) -> Scorer:
    """One hidden layer, by log-loss."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((width,), alpha=1.0, solver="lbfgs", max_iter=200, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early on purpose: it is a second ridge
        model.fit(properties, member)
    return lambda features: np.asarray(np.diff(model.predict_log_proba(features), axis=1)[:, 0])


LEARNERS: dict[str, Learner] = {
    **{f"logistic, C={strength:g}": partial(logistic, weight=strength) for strength in (1e-3, 1e-2, 1e-1)},
    **{f"pairwise, ridge={ridge:g}": partial(pairwise, ridge=ridge) for ridge in (1.0, 0.1)},
    "network": network,
}
"""Learners that are tried, by name."""


def _fitted(properties: Floats, member: Labels, owner: npt.NDArray[np.int64], seed: int) -> tuple[str, Scorer]:
    """The learner that does best within this half, fitted to all of it."""
    mean, spread = properties.mean(axis=0), properties.std(axis=0)
    moving = spread > 1e-9 * np.maximum(np.abs(mean), 1e-30)

    def standard(features: Floats) -> Floats:
        return np.asarray(np.clip((features[:, moving] - mean[moving]) / spread[moving], -_FAR, _FAR))

    if not moving.any():
        return "nothing to learn from", lambda features: np.zeros(len(features))
    scaled = standard(properties)
    name = _chosen(scaled, member, owner, seed)
    scorer = LEARNERS[name](scaled, member, seed)
    return name, lambda features: scorer(standard(features))


def _chosen(properties: Floats, member: Labels, owner: npt.NDArray[np.int64], seed: int) -> str:
    """The name of the learner with the highest mean AUC over folds of these records; owners stay whole."""
    from sklearn.model_selection import StratifiedGroupKFold

    from reticent.stats.roc import placements

    total = dict.fromkeys(LEARNERS, 0.0)
    folds = StratifiedGroupKFold(_INNER, shuffle=True, random_state=seed)
    for fit, judged in folds.split(properties, member, owner):
        if len(np.unique(member[judged])) < 2 or len(np.unique(member[fit])) < 2:
            continue
        for name, learner in LEARNERS.items():
            output = learner(properties[fit], member[fit], seed)(properties[judged])
            inside = member[judged]
            total[name] += float(placements(output[inside], output[~inside]).member.mean())
    return max(total, key=lambda name: total[name])


def _refuse_few(label: Labels, owner: npt.NDArray[np.int64], second: Labels) -> None:
    for half in (~second, second):
        for what, side in (("members", label), ("held-out records", ~label)):
            count = len(np.unique(owner[half & side]))
            if count < FEWEST:
                raise Underpowered(
                    f"{what} of {count} users or records in one half",
                    "too few to train an auditor on one half and judge it on the other",
                    f"Use at least {2 * FEWEST} users (records where there are no users) on each side.",
                )
