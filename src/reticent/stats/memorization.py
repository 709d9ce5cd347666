# SPDX-License-Identifier: Apache-2.0
"""How much each record was memorized, from several trainings that each left out a random part of the records.

This is the ground truth that a single training cannot give: what the model would have said of a record had it not been
in the data.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.core.errors import BadInput, Underpowered
from reticent.stats.scores import Floats

CLIP = 100.0
"""Log-likelihood ratios are cut at ± this many nats, as in arXiv:2409.18858."""


class CounterfactualMemorization(NamedTuple):
    """Of ``N`` records, over the runs."""

    value: Floats
    """``[N]`` mean loss of the runs without the record less that of the runs with it. Positive: memorized. NaN where
    one of the two is missing."""
    error: Floats
    """``[N]`` its standard error over runs (Welch); NaN with fewer than 2 runs with or without the record."""
    runs_in: NDArray[np.int64]
    """``[N]`` runs that were trained on the record."""
    runs_out: NDArray[np.int64]


def counterfactual_memorization(nll: ArrayLike, member: ArrayLike) -> CounterfactualMemorization:
    """Expected rise of a record's loss when it is left out of training.

    ``mem(x) = E[loss(x) | x not trained on] - E[loss(x) | x trained on]`` (Feldman and Zhang 2020, arXiv:2008.03703;
    for language models Zhang et al. 2023, arXiv:2112.12938), over runs whose splits are independent. With few runs it
    is noisy; see ``error``.

    Args:
        nll: ``[R, N]`` loss of each record after each run, nats (a token, or sums).
        member: ``[R, N]`` bool: the run was trained on the record.

    Raises:
        BadInput: shapes that differ, or losses that are not finite.
        Underpowered: no record was in for some runs and out for others.
    """
    loss, inside = _checked(nll, member)
    runs_in, runs_out = inside.sum(axis=0), (~inside).sum(axis=0)
    if not ((runs_in > 0) & (runs_out > 0)).any():
        raise Underpowered(
            f"{len(loss)} runs", "no record was trained on in some and left out in others", "Use other split seeds."
        )
    mean_in, error_in = _moments(loss, inside)
    mean_out, error_out = _moments(loss, ~inside)
    return CounterfactualMemorization(mean_out - mean_in, np.hypot(error_in, error_out), runs_in, runs_out)


def lira_memorization(target: ArrayLike, nll: ArrayLike, member: ArrayLike) -> Floats:
    """How much likelier the target's loss is among runs with the record than among runs without, in nats.

    ``log N(loss; mean_in, sd_in) - log N(loss; mean_out, sd_out)``, a Gaussian for each record and side, cut at
    ±100 (Carlini et al. 2022, arXiv:2112.03570, as arXiv:2409.18858 uses it for ground truth). Of runs too few for a
    standard deviation of their own (below 8 on a side; the paper has about 100), records share one a side.

    >>> inside, outside = [[1.0], [1.2]], [[3.0], [3.4]]
    >>> lira_memorization([1.1], [*inside, *outside], [[True], [True], [False], [False]]).round(1)
    array([28.3])

    Args:
        target: ``[N]`` loss of each record under the model in question, which is none of the runs.
        nll, member: ``[R, N]`` as in `counterfactual_memorization`.

    Returns:
        ``[N]``, positive: memorized; NaN where a side has no run.

    Raises:
        BadInput: shapes that differ, or losses that are not finite.
        Underpowered: no record has 2 runs on both sides.
    """
    loss, inside = _checked(nll, member)
    loss_of_target = np.asarray(target, dtype=np.float64)
    if loss_of_target.shape != loss.shape[1:] or not np.isfinite(loss_of_target).all():
        raise BadInput(f"target of shape {loss_of_target.shape}", "is no finite loss a record", "Give [N].")
    if not ((inside.sum(axis=0) > 1) & ((~inside).sum(axis=0) > 1)).any():
        raise Underpowered(f"{len(loss)} runs", "no record has 2 runs with it and 2 without", "Use more split seeds.")
    ratio = _log_normal(loss_of_target, loss, inside) - _log_normal(loss_of_target, loss, ~inside)
    return np.clip(ratio, -CLIP, CLIP)


SEPARATE = 8
"""Runs on a side from which on each record has a standard deviation of its own."""


def _log_normal(loss_of_target: Floats, loss: Floats, side: NDArray[np.bool_]) -> Floats:
    mean, error = _moments(loss, side)
    runs = side.sum(axis=0)
    spread = error * np.sqrt(runs)
    several = runs > 1
    weight = np.where(several, runs - 1, 0)
    shared = math.sqrt(float((weight * np.where(several, spread, 0.0) ** 2).sum()) / max(int(weight.sum()), 1))
    spread = np.maximum(np.where(runs >= SEPARATE, spread, shared), 1e-9)
    return np.asarray(-0.5 * ((loss_of_target - mean) / spread) ** 2 - np.log(spread))


def _moments(loss: Floats, side: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """``[N]`` mean over the runs of a side and its standard error; NaN where there are no, or not two, runs."""
    runs = side.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(side, loss, 0.0).sum(axis=0) / runs
        squares = np.where(side, (loss - mean) ** 2, 0.0).sum(axis=0)
        error = np.sqrt(np.where(runs > 1, squares / (runs - 1), np.nan) / runs)
    return mean, error


def _checked(nll: ArrayLike, member: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    loss, inside = np.asarray(nll, dtype=np.float64), np.asarray(member, dtype=bool)
    if loss.ndim != 2 or loss.shape != inside.shape or not loss.size:
        raise BadInput(f"nll {loss.shape} and member {inside.shape}", "do not fit", "Give one row a run, [R, N] both.")
    if not np.isfinite(loss).all():
        raise BadInput("nll", "is not finite everywhere", "Leave out runs that diverged.")
    return loss, inside
