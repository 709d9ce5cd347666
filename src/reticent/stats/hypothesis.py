# SPDX-License-Identifier: Apache-2.0
"""Tests against chance, and what keeps them honest when many attacks are tried.

Direction: higher scores say "member"; all p-values are one-sided, small when members (or one unit) score high.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from reticent.core.errors import BadInput, Underpowered
from reticent.core.validate import in_range, positive, same_length
from reticent.stats.roc import placements
from reticent.stats.scores import Floats, as_scores

CELLS = 1 << 21
"""Entries of one block of permutations, so that memory does not grow with their number."""


def family_confidence(confidence: float, tests: int) -> float:
    """Confidence for each of ``tests`` intervals so that all hold together with ``confidence`` (Bonferroni).

    >>> round(family_confidence(0.95, 10), 6)
    0.995
    """
    in_range(0, 1, confidence=confidence)
    in_range(0, np.inf, tests=tests)
    return 1 - (1 - confidence) / tests


def holm(p_values: ArrayLike) -> Floats:
    """p-values corrected for having looked at all of them, by Holm's step-down rule; valid for dependent tests.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = as_scores(p_values, name="p_values")
    if not np.all((p >= 0) & (p <= 1)):
        raise BadInput("p_values", "some lie outside [0, 1]", "Give probabilities.")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def p_values(scores: ArrayLike, held_out: ArrayLike) -> Floats:
    """``[N]`` share of held-out units that score at least as high, with the unit itself counted in.

    ``(1 + #{held_out >= score}) / (1 + N_held_out)``: a valid p-value for "this unit is like the held-out ones",
    never below ``1 / (1 + N_held_out)``.

    Args:
        scores: ``[N]`` scores of the units in question, none of them among ``held_out``.
        held_out: ``[N_held_out]`` scores.
    """
    x, y = as_scores(scores, name="scores"), np.sort(as_scores(held_out, name="held_out"))
    reached = len(y) - np.searchsorted(y, x, side="left")
    return np.asarray((1.0 + reached) / (1.0 + len(y)), dtype=np.float64)


def auc_permutation_p(member: ArrayLike, held_out: ArrayLike, *, permutations: int = 1000, seed: int = 0) -> float:
    """One-sided p-value of the AUC under random relabelling of independent units; needs no distribution.

    ``(1 + #{permuted AUC >= observed AUC}) / (1 + permutations)``, so never 0. Small: members score higher.

    Args:
        member: ``[N_member]`` scores.
        held_out: ``[N_held_out]`` scores.
        permutations: relabellings drawn.
        seed: of the relabellings.
    """
    positive(permutations=permutations)
    x, y = as_scores(member, name="member"), as_scores(held_out, name="held_out")
    doubled = np.rint(2 * rankdata(np.concatenate([x, y]))).astype(np.int64)  # whole numbers: sums compare exactly
    observed, total = int(doubled[: len(x)].sum()), int(doubled.sum())
    drawn = min(len(x), len(y))
    rng = np.random.default_rng(seed)
    block = max(1, CELLS // len(doubled))
    reached = 0
    for start in range(0, permutations, block):
        keys = rng.random((min(block, permutations - start), len(doubled)), dtype=np.float32)
        chosen = doubled[np.argpartition(keys, drawn - 1, axis=1)[:, :drawn]].sum(axis=1)
        members = chosen if drawn == len(x) else total - chosen
        reached += int(np.count_nonzero(members >= observed))
    return (1 + reached) / (1 + permutations)


class Choice(NamedTuple):
    """The attack that did best on one half of the units, and the other half, on which alone it may be reported."""

    attack: int
    """Column of the score matrices."""
    auc: float
    """On the half that chose; optimistic, never report it."""
    member: NDArray[np.bool_]
    """``[N_member]`` True for the members left for the report."""
    held_out: NDArray[np.bool_]
    """``[N_held_out]`` the same of the held-out."""


def choose_on_half(
    member: ArrayLike,
    held_out: ArrayLike,
    *,
    member_cluster: ArrayLike | None = None,
    held_out_cluster: ArrayLike | None = None,
    seed: int = 0,
) -> Choice:
    """Choose the attack with the highest AUC on a random half, so that the other half needs no correction for choosing.

    Args:
        member: ``[N_member, A]`` scores of A attacks.
        held_out: ``[N_held_out, A]`` scores of the same attacks.
        member_cluster, held_out_cluster: users of the rows; a user's rows stay in one half. Give both or neither.
        seed: of the halving, which looks at no score.

    Raises:
        BadInput: matrices that do not match, or NaN.
        Underpowered: a half without two members and two held-out units.
    """
    x, y = np.asarray(member, dtype=np.float64), np.asarray(held_out, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or x.shape[1] == 0:
        raise BadInput(
            f"member {x.shape}, held_out {y.shape}",
            "these are no scores of the same attacks",
            "Give [N, A] and [M, A].",
        )
    for name, scores in (("member", x), ("held_out", y)):
        as_scores(scores.ravel(), name=name)
    if (member_cluster is None) != (held_out_cluster is None):
        raise BadInput("clusters of one group only", "users could be split over the halves", "Give both or neither.")
    rng = np.random.default_rng(seed)
    if member_cluster is None or held_out_cluster is None:
        x_rest, y_rest = _half(len(x), rng), _half(len(y), rng)
    else:
        x_rest, y_rest = _half_of_users(x, y, np.asarray(member_cluster), np.asarray(held_out_cluster), rng)
    if min(x_rest.sum(), (~x_rest).sum(), y_rest.sum(), (~y_rest).sum()) < 2:
        raise Underpowered(
            f"{len(x)} members and {len(y)} held-out units", "too few to halve", "Correct for all attacks instead."
        )
    aucs = [float(placements(x[~x_rest, a], y[~y_rest, a]).member.mean()) for a in range(x.shape[1])]
    best = int(np.argmax(aucs))
    return Choice(attack=best, auc=aucs[best], member=x_rest, held_out=y_rest)


def _half(n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """True for a random half of n, rounded up."""
    return rng.permutation(n) >= n // 2


def _half_of_users(
    x: Floats, y: Floats, x_user: NDArray, y_user: NDArray, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Random halves of the users of each kind (only members, only held-out, both), as masks over the rows."""
    same_length(member=x, member_cluster=x_user)
    same_length(held_out=y, held_out_cluster=y_user)
    users, number = np.unique(np.concatenate([x_user, y_user]), return_inverse=True)
    x_number, y_number = number[: len(x)], number[len(x) :]
    kind = np.isin(np.arange(len(users)), x_number) + 2 * np.isin(np.arange(len(users)), y_number)
    rest = np.zeros(len(users), dtype=bool)
    for one in np.unique(kind):
        rest[kind == one] = _half(int((kind == one).sum()), rng)
    return rest[x_number], rest[y_number]
