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
        scores.append(sum(ratio(t, r) / z >= gamma for z in population) / len(population))
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
    np.testing.assert_array_equal(scores, [1.0, 0.75, np.nan])
    assert list(edge_cases(target, reference, known, known_ref, a=1.0).values()) == [1]


@pytest.mark.parametrize("params", [{"a": 1.1}, {"a": -0.1}, {"gamma": 0.0}])
def test_refuses_parameters_out_of_range(table_of, params):
    with pytest.raises(BadInput, match=next(iter(params))):
        rmia(*[table_of([[-1.0]])] * 4, **params)
