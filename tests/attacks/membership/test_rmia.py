# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.attacks.membership.rmia import edge_cases, rmia
from reticent.core.errors import BadInput


def naive(target, reference, known, known_reference, a, gamma):
    def ratio(t, r):
        return math.exp(sum(t) / len(t)) / ((1 + a) / 2 * math.exp(sum(r) / len(r)) + (1 - a) / 2)

    population = [ratio(t, r) for t, r in zip(known, known_reference, strict=True)]
    scores = []
    for t, r in zip(target, reference, strict=True):
        beaten = sum(ratio(t, r) / z >= gamma for z in population)
        gain = sum(t) / len(t) - sum(r) / len(r)
        scores.append((beaten + 0.5 + math.atan(gain) / math.pi) / (len(population) + 1))
    return scores


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=9),
    st.integers(0, 99),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.5, 1.5, 2.0]),
)
def test_equals_a_double_loop(table_of, rows_of, lengths, population, seed, a, gamma):
    rows = [rows_of(n, seed + i) for i, n in enumerate([lengths, lengths, population, population])]
    got = rmia(*(table_of(part) for part in rows), a=a, gamma=gamma)
    np.testing.assert_allclose(got, naive(*rows, a, gamma))


def test_golden_ties_count_and_empty_rows(table_of):
    target, reference = table_of([[-1.0], [-3.0], []]), table_of([[-2.0], [-3.0], []])
    known = table_of([[-2.0], [-3.0], [-4.0], [-1.5]])
    known_ref = table_of([[-2.0], [-3.0], [-3.0], [-2.0]])
    scores = rmia(target, reference, known, known_ref, a=1.0)  # plain ratios: e, 1; population 1, 1, 1/e, sqrt(e)
    beaten = np.array([4 + 0.5 + math.atan(1.0) / math.pi, 3 + 0.5, np.nan])
    np.testing.assert_allclose(scores, beaten / 5)
    assert list(edge_cases(target, reference, known, known_ref, a=1.0).values()) == [1]


@pytest.mark.parametrize("params", [{"a": 1.1}, {"a": -0.1}, {"gamma": 0.0}])
def test_refuses_parameters_out_of_range(table_of, params):
    with pytest.raises(BadInput, match=next(iter(params))):
        rmia(*[table_of([[-1.0]])] * 4, **params)


def test_ties_on_a_step_are_put_in_order_and_no_text_changes_its_step(table_of, rows_of):
    target, reference = rows_of([5] * 40, 1), rows_of([5] * 40, 2)
    known = [[-2.0], [-30.0]], [[-2.0], [-2.0]]
    scores = rmia(*map(table_of, (target, reference, *known)))
    steps = np.floor(scores * 3).astype(int)
    pairs = list(zip(target, reference, strict=True))
    ratios = np.array([np.exp(np.mean(t)) / (0.65 * np.exp(np.mean(r)) + 0.35) for t, r in pairs])
    population = np.array([np.exp(-2.0) / (0.65 * np.exp(-2.0) + 0.35), np.exp(-30.0) / (0.65 * np.exp(-2.0) + 0.35)])
    np.testing.assert_array_equal(steps, (ratios[:, None] >= population).sum(axis=1))
    gain = np.array([np.mean(t) - np.mean(r) for t, r in pairs])
    for step in range(3):
        on_it = steps == step
        np.testing.assert_array_equal(np.argsort(scores[on_it]), np.argsort(gain[on_it]))
    assert len(np.unique(scores)) == len(scores)
