# SPDX-License-Identifier: Apache-2.0
"""Exact p-values of uniform ranks, against counting all cases and against simulation."""

from itertools import product

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.stats.uniform_ranks import rank_sum_p, top_p


@pytest.mark.parametrize(("n", "candidates"), [(1, 5), (2, 4), (3, 6), (4, 3)])
def test_equals_counting_all_cases(n, candidates):
    cases = list(product(range(1, candidates + 1), repeat=n))
    for ranks in cases[:: max(1, len(cases) // 40)]:
        rank_sum = np.mean([sum(case) <= sum(ranks) for case in cases])
        assert rank_sum_p(ranks, candidates) == pytest.approx(rank_sum, abs=1e-12)
        for best in (1, 2):
            hits = sum(rank <= best for rank in ranks)
            top = np.mean([sum(rank <= best for rank in case) >= hits for case in cases])
            assert top_p(ranks, candidates, best) == pytest.approx(top, abs=1e-12)


def test_p_values_of_ranks_that_say_nothing_are_uniform_or_larger():
    rng = np.random.default_rng(0)
    p = np.array([rank_sum_p(rng.integers(1, 101, 30), 100) for _ in range(1000)])
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() < level + 3 * np.sqrt(level / 1000)
    assert 0.45 < p.mean() < 0.55


def test_small_p_values_keep_their_digits():
    assert rank_sum_p([1] * 20, 100) == pytest.approx(1e-40, rel=1e-9)


@pytest.mark.parametrize("ranks", [[], [0], [11], [1.5], [[1, 2]], [float("nan")]])
def test_refuses_what_is_no_rank(ranks):
    with pytest.raises(BadInput, match="ranks"):
        rank_sum_p(ranks, 10)
    with pytest.raises(BadInput, match="ranks"):
        top_p(ranks, 10, 1)
