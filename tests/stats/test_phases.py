# SPDX-License-Identifier: Apache-2.0
"""Phases on the published training logs, on made-up curves, and against the rule as it reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.stats.phases import phases

# Held-out perplexity and reference-attack recall after each epoch on Penn Treebank, GPT-2: the official logs of
# arXiv:2205.12506. The look before training is not in them; 40 stands for it.
FULL_5E5 = (
    [
        26.25, 23.554, 22.236, 21.456, 20.925, 20.509, 20.221, 20.032, 19.818, 19.774,
        19.665, 19.601, 19.578, 19.561, 19.514, 19.525, 19.554, 19.54, 19.552, 19.566,
    ],
    [
        0.283, 0.367, 0.419, 0.467, 0.512, 0.552, 0.612, 0.661, 0.723, 0.76,
        0.8, 0.846, 0.864, 0.888, 0.907, 0.927, 0.931, 0.935, 0.94, 0.945,
    ],
)  # fmt: skip
ADAPTER2_5E4 = (
    [
        29.705, 25.996, 24.261, 23.241, 22.646, 22.245, 21.897, 21.731, 21.727, 21.761,
        21.658, 21.777, 22.044, 22.245, 22.361, 22.528, 22.609, 22.855, 22.902, 23.079,
    ],
    [
        0.191, 0.288, 0.36, 0.419, 0.461, 0.503, 0.529, 0.606, 0.649, 0.773,
        0.838, 0.883, 0.932, 0.967, 0.978, 0.979, 0.983, 0.99, 0.991, 0.994,
    ],
)  # fmt: skip


def of(log: tuple[list[float], list[float]]) -> tuple[str, ...]:
    return phases([40.0, *log[0]], [0.1, *log[1]])


def test_full_fine_tuning_memorizes_without_getting_better_and_does_not_overfit() -> None:
    found = of(FULL_5E5)
    assert found[:10] == ("start", *["fitting"] * 9)
    assert set(found[12:]) == {"memorization"}
    assert "overfitting" not in found


def test_the_larger_adapter_goes_through_all_phases_in_order() -> None:
    found = of(ADAPTER2_5E4)
    assert found[:9] == ("start", *["fitting"] * 8)
    assert found[9:12] == ("memorization",) * 3
    assert set(found[13:]) == {"overfitting"}


def by_the_rule(perplexity: list[float], leak: list[float], tau: float) -> list[str]:
    """One look an epoch, as the rule reads."""
    found = ["start"]
    for e in range(1, len(perplexity)):
        lowest = min(perplexity[:e])
        if perplexity[e] < (1 - tau) * lowest:
            found.append("fitting")
        elif perplexity[e] > (1 + tau) * lowest:
            found.append("overfitting")
        elif leak[e] > leak[perplexity.index(lowest)]:
            found.append("memorization")
        else:
            found.append(found[-1])
    return found


@given(st.lists(st.tuples(st.floats(1, 50), st.floats(0, 1)), min_size=1, max_size=12))
def test_with_one_look_an_epoch_it_is_the_rule(looks: list[tuple[float, float]]) -> None:
    perplexity, leak = [one for one, _ in looks], [one for _, one in looks]
    assert list(phases(perplexity, leak, tolerance=0.05)) == by_the_rule(perplexity, leak, 0.05)


@given(st.integers(2, 20))
def test_slow_progress_between_many_looks_is_no_memorization(each: int) -> None:
    """Perplexity falls by 2 % an epoch, so by less than the tolerance a look."""
    epoch = [look / each for look in range(4 * each + 1)]
    found = phases([20 * 0.98**at for at in epoch], [0.1 + at / 10 for at in epoch], epoch=epoch)
    assert set(found) <= {"start", "fitting"}


def test_between_many_looks_memorization_begins_an_epoch_after_the_last_progress() -> None:
    epoch = [look / 4 for look in range(17)]
    perplexity = [max(10.0, 20 - 10 * at) for at in epoch]  # flat from epoch 1 on
    found = phases(perplexity, epoch, epoch=epoch)
    assert found.index("memorization") == 8


def test_what_does_not_move_stays_where_it_was() -> None:
    assert phases([10, 10, 10.01], [0.1, 0.1, 0.1]) == ("start", "start", "start")
    assert phases([], []) == ()


def test_lengths_must_agree() -> None:
    with pytest.raises(BadInput, match="same length"):
        phases([1.0, 2.0], [1.0])
