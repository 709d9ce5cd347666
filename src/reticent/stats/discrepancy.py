# SPDX-License-Identifier: Apache-2.0
"""How far members and held-out units lie apart in the space of all attack scores together, whatever the attack.

Discrepancy (Wu, Huang, Chaudhuri, "Better Membership Inference Privacy Measurement through Discrepancy",
arXiv:2405.15140): the largest difference, over all convex polytopes of K facets, between the shares of members and of
held-out units that fall inside. It bounds the advantage (TPR less FPR) of every attack whose decision is such a set,
and of any attack in the table it is at least the best, as a threshold on one score is a half-space.

The polytope is found as a convex polytope machine (Kantchelian et al., NeurIPS 2014). The largest difference on the
points that it was fitted to is biased upwards, so here it is fitted on one half of the units and measured on the other:
what is reported is the advantage of one set that was fixed before, a lower bound of the discrepancy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import t as student

from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate
from reticent.core.validate import in_range, same_length
from reticent.stats.cross_fitting import halves
from reticent.stats.intervals import clopper_pearson
from reticent.stats.scores import Floats

FACETS = (1, 4, 16)
FEWEST = 10
"""Fewer members, held-out units or users than this in a half, and nothing is said."""

FIT_ROWS = 200_000
"""Units that a polytope is fitted to at most; of a half with more, so many are drawn by the seed. All are measured."""

_MARGIN = 1.0
"""κ: how far from a facet a unit should lie."""
_RIDGE = 1e-3
_STEPS = 200
_RATE = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Polytope:
    """``{z : max_k (weight_k · z + bias_k) ≤ 0}``.

    Args:
        weight: ``[K, A]``.
        bias: ``[K]``.
    """

    weight: Floats
    bias: Floats

    def height(self, z: Floats) -> Floats:
        """``[N]`` ``max_k (weight_k · z + bias_k)``: at most 0 inside."""
        return np.asarray((z @ self.weight.T + self.bias).max(axis=1))

    def holds(self, z: Floats) -> NDArray[np.bool_]:
        """``[N]`` bool: inside."""
        return self.height(z) <= 0


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """Results on the half that the polytope was not fitted to.

    Args:
        advantage: share of members in the set less share of held-out units in it; 0 is chance, 1 is perfect.
        control: the same with labels that mean nothing; its interval must reach 0, or the number is not to be believed.
        facets: K, chosen on the fitting half.
        inside: which side the polytope was drawn around.
        fitted: units that it was chosen and fitted on.
        of: units in that half, of which they were drawn.
    """

    advantage: Estimate
    control: Estimate
    facets: int
    inside: Literal["member", "held_out"]
    fitted: int
    of: int


def discrepancy(
    member: ArrayLike,
    held_out: ArrayLike,
    *,
    member_cluster: ArrayLike | None = None,
    held_out_cluster: ArrayLike | None = None,
    facets: Sequence[int] = FACETS,
    confidence: float = 0.95,
    seed: int = 0,
) -> Discrepancy:
    """Advantage of the best polytope that one half of the units shows, measured on the other half.

    Of more than ``FIT_ROWS`` units in the fitting half so many are drawn by the seed; the other half is measured whole.
    Scores are replaced by normal scores of their ranks in the fitting half, so the scale of an attack is no matter. How
    many facets, and whether the polytope is drawn around members or around held-out units, is chosen within the
    fitting half. Direction: higher leaks more. The value can come out below 0 where there is nothing to find.

    The interval is for the advantage of the set that was fitted (Clopper-Pearson for each side, put together as in
    doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10). With users its ends are moved
    out, where that is wider, to those of a Student t interval whose error counts each user's units as one.

    Args:
        member: ``[N_member, A]`` scores of A attacks.
        held_out: ``[N_held_out, A]`` scores of the same attacks.
        member_cluster, held_out_cluster: users of the rows; a user's rows stay in one half. Give both or neither.
        facets: numbers of facets that are tried.
        confidence: two-sided coverage.
        seed: of halves, permutation and starting points.

    Raises:
        BadInput: matrices that do not match, or NaN.
        Underpowered: a half with fewer than 10 members, held-out units or users on a side.
    """
    in_range(0, 1, confidence=confidence)
    in_range(0, math.inf, facets=min(facets))
    x, y = np.asarray(member, dtype=np.float64), np.asarray(held_out, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or x.shape[1] == 0:
        given = f"member {x.shape}, held_out {y.shape}"
        raise BadInput(given, "these are no scores of the same attacks", "Give [N, A] and [M, A].")
    if np.isnan(x).any() or np.isnan(y).any():
        raise BadInput("scores with NaN", "a score without a value has no rank", "Drop those units from both groups.")
    if (member_cluster is None) != (held_out_cluster is None):
        raise BadInput("clusters of one group only", "users could be split over the halves", "Give both or neither.")
    z = np.concatenate([x, y])
    label = np.arange(len(z)) < len(x)
    owner = None
    if member_cluster is not None and held_out_cluster is not None:
        same_length(member=x, member_cluster=np.asarray(member_cluster))
        same_length(held_out=y, held_out_cluster=np.asarray(held_out_cluster))
        owner = np.concatenate([np.asarray(member_cluster), np.asarray(held_out_cluster)])
        owner = np.unique(owner, return_inverse=True)[1]
    measured, decided = _measured(z, label, owner, facets, confidence, seed)
    shuffled = np.random.default_rng([seed, 1]).permutation(label)
    control, _ = _measured(z, shuffled, owner, facets, 0.9999, seed)
    return Discrepancy(
        advantage=measured,
        control=control,
        facets=decided.choice.facets,
        inside=decided.choice.inside,
        fitted=decided.fitted,
        of=int((~decided.rest).sum()),
    )


def fit_polytope(inside: Floats, outside: Floats, *, facets: int, seed: int = 0) -> Polytope:
    """The polytope of ``facets`` facets that holds most of ``inside`` and least of ``outside``.

    Minimises ``mean_i Σ_k [κ + w_k·z_i + b_k]₊ + mean_o [κ - max_k(w_k·z_o + b_k)]₊ + λ‖w‖²`` (inside a unit must
    satisfy all facets, outside it must violate one) by gradient descent, then moves all facets in or out together to
    where the difference of shares is largest.

    Args:
        inside, outside: ``[n, A]`` and ``[m, A]``, about standard scale.
        facets: K.
        seed: of the facets that are started from.
    """
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(facets, inside.shape[1])) / math.sqrt(inside.shape[1])
    bias = np.full(facets, -_MARGIN)
    moments = np.zeros((2, facets, inside.shape[1] + 1))
    rows = np.arange(len(outside))
    for step in range(1, _STEPS + 1):
        short_of = (inside @ weight.T + bias + _MARGIN) > 0
        heights = outside @ weight.T + bias
        highest = heights.argmax(axis=1)
        pushed = np.zeros_like(heights)
        pushed[rows, highest] = heights[rows, highest] < _MARGIN
        by_inside, by_outside = short_of / len(inside), pushed / len(outside)
        slope = np.column_stack(
            [
                by_inside.T @ inside - by_outside.T @ outside + 2 * _RIDGE * weight,
                by_inside.sum(axis=0) - by_outside.sum(axis=0),
            ]
        )
        moments[0] = 0.9 * moments[0] + 0.1 * slope
        moments[1] = 0.99 * moments[1] + 0.01 * slope**2
        rate = _RATE * (1 - (step - 1) / _STEPS)
        change = rate * (moments[0] / (1 - 0.9**step)) / (np.sqrt(moments[1] / (1 - 0.99**step)) + 1e-8)
        weight, bias = weight - change[:, :-1], bias - change[:, -1]
    polytope = Polytope(weight=weight, bias=bias)
    return Polytope(weight=weight, bias=bias - _best_level(polytope.height(inside), polytope.height(outside)))


class _Choice(NamedTuple):
    facets: int
    inside: Literal["member", "held_out"]


class HalfDecided(NamedTuple):
    """Units of one half, decided by a polytope that was chosen and fitted on the other."""

    rest: NDArray[np.bool_]
    """``[N]`` the unit is in the half that is decided."""
    caught: NDArray[np.bool_]
    """For each of those: it is taken for a member."""
    choice: _Choice
    fitted: int
    """Units of the other half that it was chosen and fitted on."""


def decided_on_half(
    z: Floats,
    label: NDArray[np.bool_],
    owner: NDArray[np.int64] | None = None,
    *,
    facets: Sequence[int] = FACETS,
    seed: int = 0,
) -> HalfDecided:
    """Choose and fit the polytope on one half of the units, and decide the other half by it.

    Args:
        z: ``[N, A]`` scores.
        label: ``[N]`` membership; labels of the half that is decided are not looked at.
        owner: ``[N]``; an owner's units stay in one half.
        facets: numbers of facets that are tried.
        seed: of halves and starting points.

    Raises:
        Underpowered: a half with fewer than 10 members, held-out units or owners on a side.
    """
    rest = halves(label, owner, seed=seed)
    _refuse_few(label, owner, rest)
    scores = _normal_scores(z[~rest], z)
    drawn = _drawn(np.flatnonzero(~rest), seed)
    fit, fit_label = scores[drawn], label[drawn]
    choice = _choose(fit, fit_label, None if owner is None else owner[drawn], facets, seed)
    return HalfDecided(rest, _caught(fit, fit_label, choice, seed, scores[rest]), choice, len(drawn))


def _drawn(rows: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """At most ``FIT_ROWS`` of the rows, in their order."""
    if len(rows) <= FIT_ROWS:
        return rows
    return np.sort(np.random.default_rng([seed, 2]).choice(rows, size=FIT_ROWS, replace=False))


def _measured(
    z: Floats,
    label: NDArray[np.bool_],
    owner: NDArray[np.int64] | None,
    facets: Sequence[int],
    confidence: float,
    seed: int,
) -> tuple[Estimate, HalfDecided]:
    decided = decided_on_half(z, label, owner, facets=facets, seed=seed)
    of_rest = None if owner is None else owner[decided.rest]
    return _advantage(decided.caught, label[decided.rest], of_rest, confidence), decided


def _choose(
    z: Floats, label: NDArray[np.bool_], owner: NDArray[np.int64] | None, facets: Sequence[int], seed: int
) -> _Choice:
    """The choice that does best when a half of the fitting half judges a fit to the other. One facet has no inside."""
    tried = [_Choice(k, side) for k in facets for side in (("member", "held_out") if k > 1 else ("member",))]
    if len(tried) == 1:
        return tried[0]
    test = halves(label, owner, seed=seed + 1)

    def judged(choice: _Choice) -> float:
        caught = _caught(z[~test], label[~test], choice, seed, z[test])
        return float(caught[label[test]].mean() - caught[~label[test]].mean())

    return max(tried, key=judged)


def _caught(z: Floats, label: NDArray[np.bool_], choice: _Choice, seed: int, at: Floats) -> NDArray[np.bool_]:
    """``[len(at)]`` whether a unit is taken for a member by the polytope fitted to ``z``."""
    around = label if choice.inside == "member" else ~label
    inside = fit_polytope(z[around], z[~around], facets=choice.facets, seed=seed).holds(at)
    return inside if choice.inside == "member" else ~inside


def _normal_scores(reference: Floats, z: Floats) -> Floats:
    """Normal scores of the rank of each value among ``reference``, column by column, ties in the middle."""
    normal = np.empty_like(z)
    for column in range(z.shape[1]):
        ordered = np.sort(reference[:, column])
        below, upto = (np.searchsorted(ordered, z[:, column], side=side) for side in ("left", "right"))
        normal[:, column] = ndtri(((below + upto) / 2 + 0.5) / (len(ordered) + 1))
    return normal


def _best_level(inside: Floats, outside: Floats) -> float:
    """The height at which the share of ``inside`` at or below it exceeds that of ``outside`` by most."""
    heights = np.unique(np.concatenate([inside, outside]))
    levels = np.sort(np.concatenate([heights, (heights[1:] + heights[:-1]) / 2]))
    gain = np.searchsorted(np.sort(inside), levels, side="right") / len(inside)
    gain = gain - np.searchsorted(np.sort(outside), levels, side="right") / len(outside)
    best = levels[gain >= gain.max() - 1e-12]
    return float(best[len(best) // 2])


def _advantage(
    caught: NDArray[np.bool_], label: NDArray[np.bool_], owner: NDArray[np.int64] | None, confidence: float
) -> Estimate:
    """Difference of two shares of units of which none had a part in choosing the set."""
    hit, alarm = caught[label], caught[~label]
    share, false = float(hit.mean()), float(alarm.mean())
    value = share - false
    low, high = clopper_pearson([hit.sum(), alarm.sum()], [len(hit), len(alarm)], confidence=confidence)
    lo = value - math.hypot(share - low[0], high[1] - false)
    hi = value + math.hypot(high[0] - share, false - low[1])
    method = "on the half that was not fitted: Clopper-Pearson, combined by Newcombe's method 10"
    if owner is not None:
        pull = np.where(label, (caught - share) / len(hit), -(caught - false) / len(alarm))
        users, number = np.unique(owner, return_inverse=True)
        of_user = np.bincount(number, weights=pull)
        error = math.sqrt(len(users) / (len(users) - 1) * float((of_user**2).sum()))
        freedom = min(len(np.unique(owner[label])), len(np.unique(owner[~label]))) - 1
        half = float(student.ppf((1 + confidence) / 2, freedom)) * error
        lo, hi = min(lo, value - half), max(hi, value + half)
        method += f"; not narrower than Student t over {len(users)} users"
    return Estimate(value=value, lo=max(-1.0, lo), hi=min(1.0, hi), n=len(label), method=method, confidence=confidence)


def _refuse_few(label: NDArray[np.bool_], owner: NDArray[np.int64] | None, rest: NDArray[np.bool_]) -> None:
    for half in (~rest, rest):
        for name, side in (("members", label), ("held-out units", ~label)):
            units = half & side
            count = int(units.sum()) if owner is None else len(np.unique(owner[units]))
            if count < FEWEST:
                raise Underpowered(
                    f"{name} of {count} users or records in one half",
                    "too few to fit a polytope and measure it on others",
                    f"Use at least {2 * FEWEST} users (records where there are no users) on each side.",
                )
