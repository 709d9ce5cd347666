# SPDX-License-Identifier: Apache-2.0
"""The margin of an equivalence test that so many rows can show, before a score is seen, and how many would do.

For `reticent.stats.equivalence`: where forget and unseen rows have the same distribution, the interval lies within
0.5 ± margin with probability ``power``. A user whose rows are alike counts as fewer rows than they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata
from scipy.stats import t as student

from reticent.core.errors import BadInput, Underpowered
from reticent.core.validate import in_range, positive, same_length
from reticent.stats.equivalence import LARGEST_MARGIN, MIN_UNITS
from reticent.stats.power import auc_error
from reticent.stats.scores import as_scores

WANTED_MARGIN = 0.1
"""The margin where rows and users can show it."""
MOST_ROWS = 10_000_000
"""Where the search for a number of rows ends."""


@dataclass(frozen=True, kw_only=True)
class EquivalenceSizes:
    """Rows on each side.

    Args:
        forget: that were to be forgotten.
        unseen: that were never trained on.
    """

    forget: int
    unseen: int


@dataclass(frozen=True, kw_only=True)
class EquivalenceDesign:
    """Sizes of an equivalence test, and what is asked of it.

    Args:
        forget, unseen: rows on each side.
        forget_users, unseen_users: whose they are; None: each row is independent.
        alike: correlation of a user's rows, in [0, 1] (`intraclass`). 1, the default, is careful: a user is one unit.
        power: that likeness is claimed where it is true.
        confidence: of the verdict, before it is divided by looks.
        attacks: that all have to pass. Their misses are added up, whatever their likeness: attacks that agree show a
            smaller margin.
        looks: as in `reticent.stats.equivalence.equivalence`.

    Raises:
        BadInput: no counts, more users than rows, or numbers that are no probabilities.

    Examples:
        >>> EquivalenceDesign(forget=60, unseen=160, forget_users=3, unseen_users=8).users
        (3, 8)
    """

    forget: int
    unseen: int
    forget_users: int | None = None
    unseen_users: int | None = None
    alike: float = 1.0
    power: float = 0.8
    confidence: float = 0.95
    attacks: int = 1
    looks: int = 1

    def __post_init__(self) -> None:
        in_range(0, 1, power=self.power, confidence=self.confidence)
        positive(forget=self.forget, unseen=self.unseen, attacks=self.attacks, looks=self.looks)
        if not 0 <= self.alike <= 1:
            raise BadInput(f"alike={self.alike!r}", "must be in [0, 1]", "Give a correlation.")
        for rows, users in zip((self.forget, self.unseen), self.users, strict=True):
            if not 1 <= users <= rows:
                raise BadInput(f"{users} users of {rows} rows", "cannot be", "Give at least one user and row a side.")

    @property
    def users(self) -> tuple[int, int]:
        """Forget and unseen users; rows, where each is independent."""
        return (
            self.forget if self.forget_users is None else self.forget_users,
            self.unseen if self.unseen_users is None else self.unseen_users,
        )

    def scaled(self, forget: int) -> EquivalenceDesign:
        """The same with so many forget rows: unseen rows in proportion, and as many rows a user."""
        times = forget / self.forget
        unseen = max(1, math.ceil(self.unseen * times - 1e-9))
        return replace(
            self,
            forget=forget,
            unseen=unseen,
            forget_users=None if self.forget_users is None else min(forget, max(1, round(self.forget_users * times))),
            unseen_users=None if self.unseen_users is None else min(unseen, max(1, round(self.unseen_users * times))),
        )


@dataclass(frozen=True, kw_only=True)
class EquivalencePlan:
    """The test's margin, said before the first step.

    Args:
        margin: to be used: the wanted one, or the smallest that the design can show if that is larger.
        shown: the smallest margin that the design can show with the power asked for; 0.5 where it shows none.
        enough: true if likeness within ``margin`` may be claimed at all (`LARGEST_MARGIN`, `MIN_UNITS`).
        needed: rows a side, in the same proportion and with as many rows a user, that would show the wanted margin.
    """

    margin: float
    shown: float
    enough: bool
    needed: EquivalenceSizes


def margin_shown(design: EquivalenceDesign) -> float:
    """The smallest margin within which likeness is shown with the design's power where the AUC is 0.5.

    0.5 stands for "none". The standard error is that of an AUC of 0.5, sizes divided by 1 + (rows a user - 1)·alike;
    degrees of freedom are Welch's over users.

    Examples:
        >>> round(margin_shown(EquivalenceDesign(forget=60, unseen=160)), 2)
        0.13
        >>> by_user = EquivalenceDesign(forget=60, unseen=160, forget_users=6, unseen_users=16)
        >>> round(margin_shown(by_user), 2), round(margin_shown(replace(by_user, alike=0.1)), 2)
        (0.36, 0.18)
    """
    owners = design.users
    if min(owners) < 2:
        return 0.5
    rows = design.forget, design.unseen
    parts = np.array([(1 + (n / users - 1) * design.alike) / n for n, users in zip(rows, owners, strict=True)])
    freedom = float(parts.sum() ** 2 / (parts**2 / (np.array(owners) - 1)).sum())
    wide = float(student.isf((1 - design.confidence) / design.looks, freedom))
    reach = -float(ndtri((1 - design.power) / design.attacks / 2))
    furthest = 0.5 + reach * float(auc_error(0.5, 1 / parts[0], 1 / parts[1]))
    if furthest >= 1:
        return 0.5
    error = float(auc_error(furthest, 1 / parts[0], 1 / parts[1]))
    return float(expit(logit(furthest) + wide * error / (furthest * (1 - furthest)))) - 0.5


def rows_to_show(design: EquivalenceDesign, margin: float) -> EquivalenceSizes:
    """How many rows would show likeness within ``margin``: the inverse of `margin_shown`, in the design's proportions.

    Args:
        design: what is asked; its sizes give the proportion of the sides and the rows a user.
        margin: in (0, 0.5).

    Raises:
        Underpowered: not even ten million rows would do.

    Examples:
        >>> rows_to_show(EquivalenceDesign(forget=1, unseen=1), 0.1)
        EquivalenceSizes(forget=141, unseen=141)
        >>> rows_to_show(EquivalenceDesign(forget=60, unseen=160), 0.1)
        EquivalenceSizes(forget=97, unseen=259)
    """
    in_range(0, 0.4999999, margin=margin)

    def does(forget: int) -> bool:
        sized = design.scaled(forget)
        return margin_shown(sized) <= margin and min(sized.users) >= MIN_UNITS

    high = 2
    while not does(high):
        high *= 2
        if high > MOST_ROWS:
            raise Underpowered(f"a margin of {margin:g}", "takes more than ten million rows", "Ask for a wider one.")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if does(middle) else (middle, high)
    sized = design.scaled(high)
    return EquivalenceSizes(forget=sized.forget, unseen=sized.unseen)


def plan_equivalence(design: EquivalenceDesign, wanted: float = WANTED_MARGIN) -> EquivalencePlan:
    """The margin to fix before the first look, if it means anything, and the rows that would show the wanted one.

    Examples:
        >>> plan = plan_equivalence(EquivalenceDesign(forget=60, unseen=160))
        >>> round(plan.margin, 2), plan.enough, plan.needed
        (0.13, True, EquivalenceSizes(forget=97, unseen=259))
        >>> plan_equivalence(EquivalenceDesign(forget=20, unseen=20)).enough
        False
    """
    shown = margin_shown(design)
    margin = max(wanted, shown)
    return EquivalencePlan(
        margin=margin,
        shown=shown,
        enough=margin <= LARGEST_MARGIN + 1e-9 and min(design.users) >= MIN_UNITS,
        needed=rows_to_show(design, wanted),
    )


def intraclass(scores: ArrayLike, users: ArrayLike) -> float:
    """Correlation of the ranks of one user's rows, by one-way analysis of variance; in [0, 1], negative ones as 0.

    For ``alike``: take the scores of a model that was not trained on the rows, such as the base.

    Args:
        scores: ``[N]``.
        users: ``[N]`` whose row it is; at least 2 users, and one with at least 2 rows.

    Raises:
        Underpowered: too few users, or none with two rows.

    Sources: Donner (doi:10.2307/1403259).

    Examples:
        >>> intraclass([1.0, 1.1, 5.0, 5.1, 9.0, 9.1], ["a", "a", "b", "b", "c", "c"]) > 0.8
        True
    """
    ranks = rankdata(as_scores(scores, name="scores"))
    owner = np.unique(np.asarray(users).astype(str), return_inverse=True)[1]
    same_length(scores=ranks, users=owner)
    count = np.bincount(owner).astype(np.float64)
    k, n = len(count), len(ranks)
    if k < 2 or n == k:
        raise Underpowered(f"{n} rows of {k} users", "do not show how alike a user's rows are", "Give more rows.")
    mean = np.bincount(owner, weights=ranks) / count
    between = float((count * (mean - ranks.mean()) ** 2).sum()) / (k - 1)
    within = float(((ranks - mean[owner]) ** 2).sum()) / (n - k)
    size = (n - float((count**2).sum()) / n) / (k - 1)
    total = between + (size - 1) * within
    return 0.0 if total <= 0 else float(min(max((between - within) / total, 0.0), 1.0))
