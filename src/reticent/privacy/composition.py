# SPDX-License-Identifier: Apache-2.0
"""ε of several trainings on the same units together.

Privacy losses of trainings add up, whatever is chosen in view of the earlier ones (adaptive composition), so their
distributions are convolved as those of the steps of one training are (`accounting`); a chain of trainings, each from
the weights of the one before, is nothing else. Owners of several sampled units are mixtures of Gaussians, also where
their own promise was counted by group privacy: that is the same training, counted closer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from reticent.core import validate
from reticent.privacy.accounting import (
    FINEST,
    IMPLIED_SLACK,
    MIXTURE_SLACK,
    MOST_MIXED,
    SLACK,
    EpsilonSpent,
    _spread,
)
from reticent.privacy.mechanism import Mechanism
from reticent.privacy.renyi import renyi_total
from reticent.stats.epsilon import gdp_epsilon

MOST_CELLS = 5e6
"""Fewer than one training may have: a person waits for the ledger, and wider cells only add."""
CLOSELY_MIXED = 32
"""Mixtures of more Gaussians get coarser cells: finer ones take minutes."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One training: ``steps`` times ``mechanism``."""

    mechanism: Mechanism
    steps: int

    def __post_init__(self) -> None:
        validate.non_negative(steps=self.steps)


@lru_cache(maxsize=256)
def total(parts: tuple[Part, ...], *, delta: float) -> EpsilonSpent:
    """Upper bounds on ε at ``delta`` of a unit that is in all ``parts``, for whoever sees what all of them gave.

    Args:
        parts: all under the same neighbouring relation, add or remove one unit, for the same kind of unit.

    Raises:
        RuntimeError: the two accountants contradict each other.

    >>> from reticent.privacy.mechanism import Mechanism
    >>> once = Part(mechanism=Mechanism(noise_multiplier=20.0, rate=1.0), steps=16)
    >>> [round(total((once,) * n, delta=1e-5).epsilon, 2) for n in (1, 4)]
    [0.73, 1.55]
    """
    merged = _merged(parts, delta)
    if not merged:
        return EpsilonSpent(0.0, 0.0)
    check = renyi_total(merged, delta=delta)
    bounds = [_unsampled(merged, delta)]
    if any(mechanism.rate < 1 for mechanism in merged):
        bounds.append(by_losses(merged, delta=delta, width=_width(merged, check)))
    epsilon = min(bounds)
    if check < epsilon * 0.99 - 0.01 - 2 * _slack(merged):
        raise RuntimeError(f"accountants disagree on {merged}: PLD ε = {epsilon}, RDP ε = {check}; promise nothing")
    return EpsilonSpent(float(epsilon), float(max(check, epsilon)))


def by_losses(merged: Mapping[Mechanism, int], *, delta: float, width: float) -> float:
    """ε by convolution of the privacy losses of all steps, in cells of ``width``, rounded to the safe side."""
    tail = _tail(sum(merged.values()), delta)
    accountant = PLDAccountant(value_discretization_interval=width)
    left_out = removed = 0.0
    for mechanism, steps in merged.items():
        event, cut = _event(mechanism, tail)
        accountant.compose(dp_event.SelfComposedDpEvent(event, steps))
        left_out += steps * cut
        removed += steps * math.log1p(-cut)
    return float(accountant.get_epsilon(delta - left_out)) - removed


def _merged(parts: Sequence[Part], delta: float) -> dict[Mechanism, int]:
    """Steps of each mechanism; those of equal ones are steps of one. Owners of more than can be mixed count as if all
    that they own were in every step, which only adds."""
    merged: dict[Mechanism, int] = {}
    tail = _tail(sum(part.steps for part in parts), delta)
    for part in parts:
        mechanism = replace(part.mechanism, black_box=False)
        if mechanism.rate < 1 and len(mechanism.participation(tail=tail).counts) > MOST_MIXED:
            mechanism = replace(mechanism, rate=1.0)
        if part.steps:
            merged[mechanism] = merged.get(mechanism, 0) + part.steps
    # Floating point sums depend on the order; what trainings cost together does not.
    return dict(sorted(merged.items(), key=lambda item: (item[0].noise_multiplier, item[0].rate, item[0].owned)))


def _tail(steps: int, delta: float) -> float:
    """Chance, in each step, of so many units of one owner that they are left out: a hundredth of δ pays for them."""
    return delta / 100 / max(steps, 1)


def _event(mechanism: Mechanism, tail: float) -> tuple[dp_event.DpEvent, float]:
    """One step, and the chance of the draws that are left out of it, see `ParticipationCounts`."""
    if mechanism.owned == 1 or mechanism.rate == 1:
        return mechanism.event, 0.0
    participation = mechanism.participation(tail=tail)
    return participation.event(mechanism.noise_multiplier), participation.cut


def _unsampled(merged: Mapping[Mechanism, int], delta: float) -> float:
    """ε if every unit were in every step: exact at rate 1, where the squares of μ add up (Dong, Roth and Su 2022,
    Corollary 3.3), else an upper bound."""
    squares = sum(steps * (mechanism.owned / mechanism.noise_multiplier) ** 2 for mechanism, steps in merged.items())
    return gdp_epsilon(math.sqrt(squares), delta)


def _slack(merged: Mapping[Mechanism, int]) -> float:
    """About how much rounding to cells may add, of the part that allows most."""
    most = max(mechanism.owned for mechanism in merged)
    return SLACK if most == 1 else MIXTURE_SLACK if most <= CLOSELY_MIXED else IMPLIED_SLACK


def _width(merged: Mapping[Mechanism, int], check: float) -> float:
    """Width of cells, as `accounting` chooses it for one training: for all steps together, and for the part that needs
    the finest. Cells that would not fit into memory are made wider, which only adds to ε."""
    steps, slack = sum(merged.values()), _slack(merged)
    # The others have a closed form, and owners of very many would fill the memory.
    spread = min(_spread(mechanism, number) for mechanism, number in merged.items() if mechanism.rate < 1)
    width = max(min(math.sqrt(4 * slack / steps), spread / 4), slack / steps, FINEST)
    return max(width, check / MOST_CELLS)
