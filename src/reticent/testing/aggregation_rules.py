# SPDX-License-Identifier: Apache-2.0
"""Conformance of aggregation rules: ``check_aggregation_rule("my_rule")`` gives the rule made-up updates."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence

import torch

from reticent.federated.aggregate.aggregator import AGGREGATORS, Aggregator
from reticent.federated.update import Update, check_update, norm, zeros_like

SHAPES = {"a": (4, 3), "b": (5,)}
UPDATES = 9
DENOMINATOR = 6.0
"""Another number than that of the updates, as not all that are expected answer."""
TRIALS = 60
RTOL, ATOL = 1e-4, 1e-6
"""Updates within these are the same."""


def check_aggregation_rule(rule: Aggregator | str) -> None:
    """Check one rule: what it gives is an update, does not depend on the order, and is bounded where it says so.

    A rule that ``streams`` may hold one update while the next one arrives. A ``bounded`` one must count a client that
    is missing as zero, divide by the number it is given, and move by at most C / denominator when one update of a norm
    of at most C comes or goes, for whatever others are found by random search.

    Raises:
        AssertionError: the rule does not keep to something; says to what.

    Examples:
        >>> check_aggregation_rule("mean")
    """
    rule = AGGREGATORS.get(rule) if isinstance(rule, str) else rule
    assert rule.summary.endswith("."), f"{rule.name}: the docstring's first line must be one whole sentence"
    assert rule.fewest >= 1, f"{rule.name}: fewest must be at least 1"
    random = torch.Generator().manual_seed(0)
    updates = [_update(random) for _ in range(max(UPDATES, rule.fewest))]
    _check_output(rule, updates, random)
    _check_fewest(rule, updates)
    if rule.streams:
        _check_streams(rule)
    if rule.bounded:
        _check_denominator(rule, updates)
        _check_bounded(rule, random)


def _check_output(rule: Aggregator, updates: Sequence[Update], random: torch.Generator) -> None:
    copies = [{name: array.clone() for name, array in update.items()} for update in updates]
    outcome = _of(rule, updates)
    assert outcome.keys() == SHAPES.keys(), f"{rule.name}: gives other arrays than it was given"
    try:
        check_update(outcome, updates[0])
    except ValueError as error:
        raise AssertionError(f"{rule.name}: gives {error}") from error
    for update, copy in zip(updates, copies, strict=True):
        assert _same(update, copy, exact=True), f"{rule.name}: writes into its input"
    assert _same(_of(rule, updates), outcome, exact=True), f"{rule.name}: a second call gives something else"
    for _ in range(5):
        order = torch.randperm(len(updates), generator=random).tolist()
        shuffled = _of(rule, [updates[number] for number in order])
        assert _same(shuffled, outcome), f"{rule.name}: the order of the updates matters"


def _check_fewest(rule: Aggregator, updates: Sequence[Update]) -> None:
    """With just so many it gives something, and not by luck of the numbers."""
    for number in range(rule.fewest, rule.fewest + 3):
        try:
            check_update(_of(rule, updates[:number]), updates[0])
        except Exception as error:
            raise AssertionError(f"{rule.name}: fails with {number} updates, {rule.fewest} do: {error!r}") from error


def _check_streams(rule: Aggregator) -> None:
    """It lets go of an update when it takes the next but one."""
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def arriving() -> Iterator[Update]:
        nonlocal most
        random = torch.Generator().manual_seed(1)
        for _ in range(UPDATES):
            update = _update(random)
            for array in update.values():
                alive.add(array)
            most = max(most, len(alive))
            yield update
            del update, array

    rule(arriving(), denominator=DENOMINATOR)
    assert most <= 2 * len(SHAPES), f"{rule.name}: says that it holds one update at a time, and holds more"


def _check_denominator(rule: Aggregator, updates: Sequence[Update]) -> None:
    outcome = _of(rule, updates)
    with_zero = _of(rule, [*updates, zeros_like(updates[0])])
    assert _same(with_zero, outcome), f"{rule.name}: a client that says zero is not as one that says nothing"
    halved = rule(iter(updates), denominator=2 * DENOMINATOR)
    doubled = {name: 2 * array for name, array in halved.items()}
    assert _same(doubled, outcome), f"{rule.name}: twice the denominator does not give half the outcome"


def _check_bounded(rule: Aggregator, random: torch.Generator) -> None:
    """Look for others among whom one short update moves the outcome by more than it may."""
    for trial in range(TRIALS):
        others = [_update(random, scale=10.0 ** (trial % 4 - 2)) for _ in range(max(rule.fewest, 2 + trial % 7))]
        limit = 10.0 ** (trial % 3 - 1)
        one = _of_norm(_update(random), limit)
        before, after = _of(rule, others), _of(rule, [*others, one])
        moved = norm({name: after[name] - before[name] for name in before})
        # Sums of float32 are rounded in units of the largest.
        rounding = 1e-5 * max(norm(before), norm(after))
        assert moved <= limit / DENOMINATOR * 1.0001 + rounding, (
            f"{rule.name}: says that it is bounded, and one update of norm {limit:g} moves the outcome by {moved:.3g}, "
            f"more than {limit / DENOMINATOR:.3g}"
        )


def _of(rule: Aggregator, updates: Iterable[Update]) -> dict[str, torch.Tensor]:
    return rule(iter(updates), denominator=DENOMINATOR)


def _update(random: torch.Generator, scale: float = 1.0) -> dict[str, torch.Tensor]:
    return {name: scale * torch.randn(shape, generator=random) for name, shape in SHAPES.items()}


def _of_norm(update: Update, length: float) -> dict[str, torch.Tensor]:
    return {name: array * (length / norm(update)) for name, array in update.items()}


def _same(one: Update, other: Update, *, exact: bool = False) -> bool:
    if exact:
        return all(torch.equal(one[name], other[name]) for name in other)
    return all(torch.allclose(one[name], other[name], rtol=RTOL, atol=ATOL) for name in other)
