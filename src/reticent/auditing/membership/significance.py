# SPDX-License-Identifier: Apache-2.0
"""Tests for leakage: every attack of every level against re-thrown coins, with one error for the whole report.

One primary statistic per level is named before scores are seen and gets most of the level's error; all other attacks,
by their AUC and by their highest scores, share the rest by step-down max-T. An attack that learns from labels is judged
on the half that it did not see. A closed test puts levels and planted secrets together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from reticent.auditing.membership.level import COMBINATION, AttackScores, Level
from reticent.auditing.membership.primary import primary_of
from reticent.core.results import LevelTest
from reticent.stats.hypothesis import holm
from reticent.stats.max_t import HypothesisGroup, max_t
from reticent.stats.relabel import Design, relabelled, smallest_p

Key = tuple[str, str]
"""Attack and statistic."""
Floats = npt.NDArray[np.float64]

DRAWS = 2000
"""Labellings that the real one is compared with."""
TOP = (0.1, 0.03)
"""Shares of all units, from the highest scores: few that are memorized show there, and hardly in the AUC."""
AUC = "auc"
PRIMARY_SHARE, REST_SHARE, LEARNED_SHARE = 0.8, 0.2, 0.2
"""Parts of a level's error, before they are made to sum to one: of the primary statistic, of all other attacks, and of
auditors that learn from labels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HypothesisFamily:
    """Statistics of a level that share a part of its error.

    Args:
        name: ``"primary"``, ``"rest"`` or ``"learned"``.
        weight: the part.
        keys: attack and statistic of each.
        adjusted: ``[K]`` p-values, adjusted within the family.
    """

    name: str
    weight: float
    keys: tuple[Key, ...]
    adjusted: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelTests:
    """Tests of one level under re-thrown coins.

    Args:
        primary: the attack that was named beforehand; empty where none of the list ran.
        families: the primary statistic, the rest, and attacks that learn from labels.
        smallest: no p-value of this level can be smaller.
        draws: labellings.
    """

    primary: str
    families: tuple[HypothesisFamily, ...]
    smallest: float
    draws: int

    @property
    def groups(self) -> tuple[HypothesisGroup, ...]:
        """Its families as groups that share the level's error."""
        return tuple(HypothesisGroup(family.weight, family.adjusted) for family in self.families)

    def error_of(self, name: str, error: float) -> float:
        """The part of the level's ``error`` that the smallest p-value of a family is compared with first."""
        total = sum(family.weight for family in self.families)
        return sum(error * family.weight / total for family in self.families if family.name == name)

    def count_of(self, name: str) -> int:
        return sum(len(family.keys) for family in self.families if family.name == name)


def significance(level: Level, *, named: str = "", seed: int = 0, draws: int = DRAWS) -> LevelTests:
    """Test every attack of a level against re-thrown coins.

    Args:
        level: the units, with the labellings that re-thrown coins could give.
        named: the primary attack, where a person chose it.
        seed: of the draws.
        draws: labellings besides the real one.
    """
    names = [scored.name for scored in level.attacks if scored.second is None]
    primary = primary_of(level.name, names, named)
    keys, columns = _columns(level)
    statistics = _statistics(level, columns, seed, draws)
    if level.learned is not None:
        keys = [*keys, (COMBINATION, AUC)]
    first = [index for index, key in enumerate(keys) if key == (primary, AUC)]
    rest = [index for index in range(len(keys)) if index not in first]
    families = [
        HypothesisFamily(
            name=name,
            weight=weight,
            keys=tuple(keys[index] for index in indices),
            adjusted=max_t(statistics[indices]).adjusted,
        )
        for name, weight, indices in (("primary", PRIMARY_SHARE, first), ("rest", REST_SHARE, rest))
        if indices
    ]
    learned = [scored for scored in level.attacks if scored.second is not None and scored.name != COMBINATION]
    if learned:
        p = holm([_of_halves(level, scored, seed, draws) for scored in learned])
        keys = [(scored.name, AUC) for scored in learned]
        families.append(HypothesisFamily(name="learned", weight=LEARNED_SHARE, keys=tuple(keys), adjusted=p))
    smallest = smallest_p(level.member, level.thrown.design, draws=draws)
    return LevelTests(primary=primary, families=tuple(families), smallest=smallest, draws=draws)


def by_statistic(level: str, tests: LevelTests, adjusted: Sequence[Floats]) -> dict[tuple[str, str, str], float]:
    """p-values by level, attack and statistic.

    Args:
        level: its name.
        tests: of the level.
        adjusted: for each of ``tests.groups`` the p-values adjusted for everything that the report tests.
    """
    return {
        (level, *key): float(p)
        for family, p_values in zip(tests.families, adjusted, strict=True)
        for key, p in zip(family.keys, p_values, strict=True)
    }


def described(level: Level, tests: LevelTests, adjusted: Sequence[Floats], error: float) -> LevelTest:
    """For the report.

    Args:
        level: the tested one.
        tests: of the level.
        adjusted: as in `by_statistic`.
        error: the level's part of the error.
    """
    p_values = by_statistic(level.name, tests, adjusted).values()
    return LevelTest(
        level=level.name,
        primary=tests.primary,
        rethrown=level.thrown.said,
        exact=level.thrown.exact,
        statistics=len(p_values),
        draws=tests.draws,
        error=error,
        p_value=min(p_values, default=1.0),
    )


def _columns(level: Level) -> tuple[list[Key], Floats]:
    """Columns that are summed over members: ranks and top shares of every attack that learned from no label."""
    keys: list[Key] = []
    columns: list[Floats] = []
    for scored in level.attacks:
        if scored.second is not None:
            continue
        keys += [(scored.name, AUC), *((scored.name, top(share)) for share in shares(level))]
        columns += [rankdata(scored.score), *(_top(scored.score, share) for share in shares(level))]
    return keys, np.column_stack(columns) if columns else np.zeros((len(level.member), 0))


def shares(level: Level) -> tuple[float, ...]:
    """Top shares that are tested: fixed ones, and the false positive rates that there are units enough to show."""
    return (*TOP, *(fpr for fpr in level.fprs if fpr not in TOP))


def top(share: float) -> str:
    """Name of the statistic that counts members among the highest scores."""
    return f"top@{share:g}"


def _top(score: Floats, share: float) -> Floats:
    """``[U]``: 1 for the share of units with the highest scores; tied units at the edge get equal parts of one."""
    size = share * len(score)
    below = len(score) - rankdata(score, method="max")
    upto = len(score) - rankdata(score, method="min") + 1
    return np.clip((size - below) / (upto - below), 0.0, 1.0)


def _statistics(level: Level, columns: Floats, seed: int, draws: int) -> Floats:
    """``[K, 1 + draws]``, the real labels first."""
    design = level.thrown.design
    weights = design.sums(columns - columns.mean(axis=0))
    parts = []
    for labels in relabelled(level.member, design, draws=draws, seed=seed):
        wide = labels.astype(np.float64)
        rows = weights.T @ wide
        if level.learned is not None:
            rows = np.vstack([rows, level.learned.statistics(wide[design.block])])
        parts.append(rows)
    return np.concatenate(parts, axis=1)


def _of_halves(level: Level, scored: AttackScores, seed: int, draws: int) -> float:
    """p-value of scores that were learned on either half for the other.

    Once an attack has learned on one half, its scores of the other half are fixed, so the coins of that other half may
    be thrown again. The two p-values share labels, so twice the smaller one counts.
    """
    assert scored.second is not None
    p_values = []
    for half in (scored.second, ~scored.second):
        part = _part(level.thrown.design, half)
        ranks = rankdata(scored.score[half])
        weights = part.sums((ranks - ranks.mean())[:, None])
        label = level.member[half]
        sums = [weights.T @ labels for labels in relabelled(label, part, draws=draws, seed=seed)]
        p_values.append(float(max_t(np.concatenate(sums, axis=1)).p[0]))
    return min(1.0, 2 * min(p_values))


def _part(design: Design, rows: npt.NDArray[np.bool_]) -> Design:
    return Design(block=np.unique(design.block[rows], return_inverse=True)[1], stratum=design.stratum[rows])
