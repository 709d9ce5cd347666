# SPDX-License-Identifier: Apache-2.0
"""The texts that a model knows beyond their altered copies, from losses alone: arrays in, p-values out.

See `reticent.scanning.behaviour.pre_memorization` for the statistic and its null.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.core.errors import Underpowered
from reticent.stats.conformal import aligned, clustered_p_values, owners, paired_p_values
from reticent.stats.false_discoveries import DiscoverySet, benjamini_hochberg, smallest_discovery
from reticent.stats.higher_criticism import DRAWS, paired_global_p, pooled_global_p
from reticent.stats.scores import Floats

LEVEL = 0.1
FEWEST = 20
"""Texts: with fewer, even ten that are all known could not be told from chance at a tenth of false discoveries."""
FEWEST_PEOPLE = 10
"""Users of the texts, who are what is exchanged: of fewer, no p-value comes down to a tenth."""
ALLOWANCE = 2.0
"""Without controls: how many times as often as their copies harmless texts may lie beyond the copies' tail."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LossShifts:
    """d of texts and of their altered copies.

    Args:
        ids: ``[N]`` of texts.
        user: ``[N]`` of each text; the text's own id where no user is known.
        text: ``[N]`` d of the text, nats a token; negative: the suspect finds it likelier than the sibling does.
        copies: ``[N, m]`` d of its copies.
        left_out: ids of texts in which nothing could be altered, or of which no token is predicted.
    """

    ids: tuple[str, ...]
    user: tuple[str, ...]
    text: Floats
    copies: Floats
    left_out: tuple[str, ...] = ()

    @property
    def score(self) -> Floats:
        """``[N]`` −s: how much further below the sibling the text lies than its copies do, nats a token."""
        return np.asarray(self.copies[:, 1:].mean(axis=1) - self.text)

    @property
    def null(self) -> Floats:
        """``[N]`` the same of the first copy."""
        return np.asarray(self.copies[:, 1:].mean(axis=1) - self.copies[:, 0])

    def take(self, rows: npt.ArrayLike) -> LossShifts:
        """Some of the texts."""
        chosen = np.asarray(rows)
        return LossShifts(
            ids=tuple(np.array(self.ids, dtype=object)[chosen]),
            user=tuple(np.array(self.user, dtype=object)[chosen]),
            text=self.text[chosen],
            copies=self.copies[chosen],
            left_out=self.left_out,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class PreMemorization:
    """The judgement on all texts together.

    Args:
        shifts: what it rests on.
        p: ``[N]`` conformal p-value of each text, the larger one where there are two nulls.
        chosen: the set at ``LEVEL`` false discoveries.
        global_p: of "none was trained on", by higher criticism.
        smallest_p: that a text could have.
        fewest: texts that have to be known together to be chosen.
        limit: the largest null score (nats a token): a text of which more is known has the smallest p-value.
        shifted: how far the bulk of the texts lies above the null (nats a token) and was taken for harmless.
        controls: how many there were.
        people: users of the texts, each of whom counts once.
    """

    shifts: LossShifts
    p: Floats
    chosen: DiscoverySet
    global_p: float
    smallest_p: float
    fewest: int
    limit: float
    shifted: float
    controls: int
    people: int


def judge(
    shifts: LossShifts,
    controls: LossShifts | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> PreMemorization:
    """The texts that were known beforehand, and a p-value of "none was".

    Args:
        shifts: of the private texts.
        controls: of texts that the publisher cannot have had; None without any.
        level: of false discoveries.
        draws: of the global test.
        seed: of the same.

    Raises:
        Underpowered: too few texts could be altered, or they are of too few users.
    """
    people = _refuse_few(shifts)
    n, score, user = len(shifts.ids), shifts.score, owners(len(shifts.ids), shifts.user)
    if controls is None:

        def p_of(x: Floats, y: Floats) -> Floats:
            return paired_p_values(x, aligned(y, x), user)

        p, null = p_of(score, shifts.null), aligned(shifts.null, score)
        global_p = paired_global_p(
            score, shifts.null, p_of=p_of, allowance=ALLOWANCE, cluster=user, draws=draws, seed=seed
        )
        smallest = 1 / people
    else:
        null, beside = np.concatenate([shifts.null, controls.score]), owners(len(controls.ids), controls.user)
        p = np.maximum(paired_p_values(score, shifts.null, user), clustered_p_values(score, controls.score, beside))
        global_p = max(
            paired_global_p(score, shifts.null, cluster=user, draws=draws, seed=seed),
            pooled_global_p(score, controls.score, cluster=user, null_cluster=beside, draws=draws, seed=seed),
        )
        smallest = 1 / min(people, 2 + int(beside.max()))
    return PreMemorization(
        shifts=shifts,
        p=p,
        chosen=benjamini_hochberg(p, level),
        global_p=global_p,
        smallest_p=smallest,
        fewest=smallest_discovery(n, smallest, level),
        limit=float(null.max()),
        shifted=max(0.0, float(np.median(score) - np.median(shifts.null))) if controls is None else 0.0,
        controls=0 if controls is None else len(controls.ids),
        people=people,
    )


def _refuse_few(shifts: LossShifts) -> int:
    """The number of users, where there are enough of them and of texts."""
    n, people = len(shifts.ids), len(set(shifts.user))
    if n < FEWEST:
        raise Underpowered(
            f"{n} private texts with something to alter",
            f"are too few to tell a known one from chance ({len(shifts.left_out)} have no name, number or date)",
            f"Give at least {FEWEST}, better 200, or mark what is personal in them (reticent prepare).",
        )
    if people < FEWEST_PEOPLE:
        raise Underpowered(
            f"{n} private texts of {people} {'user' if people == 1 else 'users'}",
            "are too few users to tell a known text from chance: texts of one user share names and habits, and count "
            "as one",
            f"Give texts of at least {FEWEST_PEOPLE} users, better 200.",
        )
    return people
