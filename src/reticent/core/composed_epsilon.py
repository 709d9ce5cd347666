# SPDX-License-Identifier: Apache-2.0
"""ComposedEpsilon: the cost of several private trainings on the same data, for whoever sees all that they gave."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ComposedEpsilon:
    """(ε, δ) of several trainings, of the unit for which it is largest.

    Args:
        unit: whose traces are hidden, "record" or "user".
        epsilon: upper bound, privacy losses added up.
        check: the same by Rényi divergences, coarser.
        delta: chance that the bound may fail.
        relation: which data sets are indistinguishable, such as "add or remove one user".
        trainings: how many were counted; those that did not finish are among them.
        of_one_unit: most of them that one unit is in.
        sum_epsilon, sum_delta: the plain sum over these, which holds too.
        not_counted: trainings on this data, or on data unknown, that could not be counted: ε is then no upper bound.
        without_privacy: trainings on this data that promise nothing; they have no ε to be added.
    """

    unit: str
    epsilon: float
    check: float
    delta: float
    relation: str
    trainings: int
    of_one_unit: int
    sum_epsilon: float
    sum_delta: float
    not_counted: int = 0
    without_privacy: int = 0

    def sentence(self) -> str:
        """ε with all that gives it a meaning; ε is rounded up.

        Examples:
            >>> ComposedEpsilon(
            ...     unit="user", epsilon=11.311, check=12.5, delta=1e-5, relation="add or remove one user", trainings=2,
            ...     of_one_unit=2, sum_epsilon=16.0, sum_delta=2e-5,
            ... ).sentence()  # doctest: +ELLIPSIS
            '2 private trainings together: ε = 11.32 per user at δ = 1e-05 (add or remove one user; ...plain sum: ...).'
        """
        who = (
            f", at most {self.of_one_unit} of them on any one {self.unit}" if self.of_one_unit < self.trainings else ""
        )
        least = "at least " if self.not_counted else ""
        text = (
            f"{_count(self.trainings, 'private training')} together{who}: {least}ε = {rounded_up(self.epsilon)} per "
            f"{self.unit} at δ = {self.delta:.2g} ({self.relation}; privacy losses added up, for whoever sees them "
            f"all; plain sum: {least}ε = {rounded_up(self.sum_epsilon)} per {self.unit} at δ = {self.sum_delta:.2g})."
        )
        if self.not_counted:
            text += f" {_count(self.not_counted, 'training')} could not be counted, so this is no upper bound."
        if self.without_privacy:
            text += (
                f" {_count(self.without_privacy, 'training')} on this data promised no privacy: for whoever sees those "
                "too, no ε holds."
            )
        return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def rounded_up(value: float, digits: int = 2) -> str:
    """So many decimals, rounded up: an upper bound must not be rounded down. A billionth over is floating point."""
    return f"{math.ceil(value * 10**digits - 1e-7) / 10**digits:.{digits}f}"
