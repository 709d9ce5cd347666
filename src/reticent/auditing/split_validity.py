# SPDX-License-Identifier: Apache-2.0
"""Before any membership claim: can members be told from held-out records without the model?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from reticent.core.finding import Estimate
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.core.results import Confound
from reticent.data.blind_baseline import blind_scores
from reticent.data.coin import uniform
from reticent.data.dedup.near import near_duplicates
from reticent.stats.clustered import MIN_CLUSTERS, auc_clustered
from reticent.stats.hypothesis import family_confidence
from reticent.stats.intervals import clopper_pearson
from reticent.stats.roc import auc

SEPARABLE = 0.55
"""A blind AUC above this, with an interval above 0.5, means that a membership claim would rest on the split."""
MIN_SIDE = 20
"""Fewer members or held-out than this on a side, and the blind baseline says nothing."""
MAX_UNREAD = 0.5
"""With a larger share of texts that the blind baseline can read next to nothing of, it says nothing."""
MAX_TEXTS = 20_000
"""More texts than this (chosen by hash) would only take longer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Comparison:
    """One membership claim that an audit may make: ``[N]`` texts of two kinds."""

    level: str
    rows: npt.NDArray[np.int64]
    member: npt.NDArray[np.bool_]


def check(records: Sequence[Record], membership: Membership, *, confidence: float = 0.95, seed: int = 0) -> Confound:
    """A blind text-only baseline and the near-duplicates across the split.

    The baseline is made for each comparison that the membership allows: records (members with held-out ones; with a
    split by user, of the same users), and users (fresh texts of users who are in and out, scores averaged by user).
    The one that is more certain to be separable is given; with two, their intervals hold together (Bonferroni). The
    split counts as separable when the AUC is above 0.55 and its interval above 0.5; an AUC that is as far *below*
    is a fault of folds or of tiny data, not of the split.

    A claim about lists that a person gave rests on this check: coins that somebody else threw cannot be seen. Where
    records of such lists could not be compared (too few, or texts that the baseline cannot read), they are
    ``unchecked``, and no claim is made about them.

    Args:
        records: aligned with ``membership``.
        membership: only rows that are attacked are compared, each at the levels at which it is attacked.
        confidence: of the intervals.
        seed: of folds and bootstrap.

    Returns:
        ``near_duplicates`` counts evaluated members with a near-duplicate among evaluated held-out records.
    """
    evaluated = np.flatnonzero(membership.role == "evaluate")
    comparisons = [comparison for comparison in _comparisons(membership) if _enough(comparison, membership)]
    interval_confidence = family_confidence(confidence, max(1, len(comparisons)))
    baselines = {
        comparison.level: _blind(comparison, records, membership, interval_confidence, seed)
        for comparison in comparisons
    }
    blind = {level: baseline.estimate for level, baseline in baselines.items() if baseline.unread <= MAX_UNREAD}
    worst = max(blind.values(), key=lambda estimate: (estimate.lo, estimate.value), default=None)
    duplicates, share = _duplicates(records, membership, evaluated, confidence)
    separable = any(estimate.value > SEPARABLE and estimate.lo > 0.5 for estimate in blind.values())
    return Confound(
        blind_auc=worst,
        near_duplicates=duplicates,
        near_duplicate_share=share,
        separable=separable,
        note=_note(baselines),
        unchecked=membership.unit == "given" and "record" not in blind,
    )


@dataclass(frozen=True, kw_only=True)
class _BlindBaseline:
    """The blind AUC of one comparison, the features that it read, and the share of texts that it could not read."""

    estimate: Estimate
    read: str
    unread: float


def widened(estimate: Estimate) -> Estimate:
    """An AUC of cross-validated scores with its interval √2 times wider on the logit scale.

    Intervals for an AUC take the scores as given. Here two texts meet twice: each helps to classify the other, and both
    times the same chance likeness of their labels counts, so without any signal the variance is twice as large. (For a
    kernel classifier, score_i = Σ_j K_ij y_j, the AUC is linear in Σ_ij y_i K_ij y_j, which has every pair twice.)
    """
    if not 0 < estimate.value < 1 or estimate.lo in (0.0, 1.0) or estimate.hi in (0.0, 1.0):
        return estimate
    centre = logit(estimate.value)
    lo, hi = (float(expit(centre + math.sqrt(2) * (logit(end) - centre))) for end in (estimate.lo, estimate.hi))
    return replace(estimate, lo=lo, hi=hi, method=f"{estimate.method}, √2 wider for cross-validation")


def _comparisons(membership: Membership) -> list[_Comparison]:
    by_user = membership.unit == "user"
    rows = membership.role == "evaluate"
    if by_user:
        rows = rows & membership.user_member
    kinds = [("record", rows, membership.member)]
    if by_user or (membership.unit == "given" and membership.has_users):
        kinds.append(("user", membership.attacked & ~membership.member, membership.user_member))
    return [_Comparison(level=level, rows=np.flatnonzero(rows), member=member[rows]) for level, rows, member in kinds]


def _enough(comparison: _Comparison, membership: Membership) -> bool:
    """True where both sides have ``MIN_SIDE`` units."""
    groups = [comparison.rows[comparison.member], comparison.rows[~comparison.member]]
    if comparison.level == "user":
        return min(len(set(membership.user[rows])) for rows in groups) >= MIN_SIDE
    return min(map(len, groups)) >= MIN_SIDE


def _blind(
    comparison: _Comparison, records: Sequence[Record], membership: Membership, confidence: float, seed: int
) -> _BlindBaseline:
    rows, member = _thinned(comparison, records, seed)
    texts = [records[row].plain for row in rows]
    users = membership.user[rows].astype(str) if membership.has_users else None
    blind = blind_scores(texts, member, None if users is None else users.tolist(), seed=seed)
    estimate = widened(_estimate(blind.score, member, users, comparison.level, confidence, seed))
    return _BlindBaseline(estimate=estimate, read=blind.read, unread=blind.unread)


def _estimate(
    score: npt.NDArray[np.float64],
    member: npt.NDArray[np.bool_],
    users: npt.NDArray[np.str_] | None,
    level: str,
    confidence: float,
    seed: int,
) -> Estimate:
    if users is None:
        return auc(score[member], score[~member], confidence=confidence)
    if level == "user":
        _, first, of_user = np.unique(users, return_index=True, return_inverse=True)
        score = np.bincount(of_user, weights=score) / np.bincount(of_user)
        member = member[first]
        return auc(score[member], score[~member], confidence=confidence)
    if len(np.unique(users)) < MIN_CLUSTERS:
        return auc(score[member], score[~member], confidence=confidence)
    return auc_clustered(score[member], score[~member], users[member], users[~member], seed=seed, confidence=confidence)


def _thinned(
    comparison: _Comparison, records: Sequence[Record], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    if len(comparison.rows) <= MAX_TEXTS:
        return comparison.rows, comparison.member
    number = [uniform(seed, "blind", records[row].id) for row in comparison.rows.tolist()]
    sample = np.sort(np.argsort(number)[:MAX_TEXTS])
    return comparison.rows[sample], comparison.member[sample]


def _duplicates(
    records: Sequence[Record], membership: Membership, evaluated: npt.NDArray[np.int64], confidence: float
) -> tuple[int, Estimate | None]:
    members = [records[row].plain for row in evaluated[membership.member[evaluated]].tolist()]
    held_out = [records[row].plain for row in evaluated[~membership.member[evaluated]].tolist()]
    if not members:
        return 0, None
    duplicates = int(near_duplicates(members, held_out).sum())
    lo, hi = clopper_pearson(duplicates, len(members), confidence=confidence)
    share = Estimate(
        value=duplicates / len(members),
        lo=float(lo),
        hi=float(hi),
        n=len(members),
        method="Clopper-Pearson",
        confidence=confidence,
    )
    return duplicates, share


def _note(baselines: dict[str, _BlindBaseline]) -> str:
    if not baselines:
        return f"Fewer than {MIN_SIDE} members or held-out: whether the split is confounded could not be checked."
    aucs = " and ".join(_shown(level, baseline) for level, baseline in baselines.items())
    read = " and ".join(dict.fromkeys(baseline.read for baseline in baselines.values()))
    return f"Blind AUC (no model, cross-validated; read were {read}, and lengths): {aucs}."


def _shown(level: str, baseline: _BlindBaseline) -> str:
    if baseline.unread > MAX_UNREAD:
        unread = f"{100 * baseline.unread:.0f} % of the texts"
        return f"{level}s could not be checked: {unread} share next to nothing with others"
    return f"{level}s {baseline.estimate.value:.3f} [{baseline.estimate.lo:.3f}, {baseline.estimate.hi:.3f}]"
