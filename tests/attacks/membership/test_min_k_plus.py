# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np

from reticent.attacks.membership.min_k_plus import LEAST_SIGMA, min_k_plus


def test_golden(table_of):
    table = table_of([[-1.0, -3.0], [-2.0, -2.0]], mu=[[-2.0, -2.0], [-2.0, -1.0]], sigma=[[1.0, 0.5], [1.0, 2.0]])
    np.testing.assert_array_equal(min_k_plus(table, k=0.5), [-2.0, -0.5])
    np.testing.assert_array_equal(min_k_plus(table, k=1.0), [-0.5, -0.25])


def test_a_distribution_on_one_token_gives_zero_and_an_impossible_one_stays_finite(table_of):
    table = table_of([[0.0], [-1.0]], mu=[[0.0], [0.0]], sigma=[[0.0], [0.0]])
    np.testing.assert_allclose(min_k_plus(table), [0.0, -1.0 / LEAST_SIGMA])


def test_equals_a_loop(table_of, rows_of):
    rng = np.random.default_rng(3)
    rows = rows_of([1, 2, 7, 7, 40], 3)
    mu, sigma = ([list(rng.uniform(*ends, len(row))) for row in rows] for ends in ((-4, -1), (0.2, 2)))
    table = table_of(rows, mu=mu, sigma=sigma)
    naive = []
    for row, means, deviations in zip(rows, mu, sigma, strict=True):
        z = sorted((x - m) / s for x, m, s in zip(row, means, deviations, strict=True))
        naive.append(np.mean(z[: math.ceil(round(0.2 * len(z), 9))]))
    np.testing.assert_allclose(min_k_plus(table), naive, rtol=1e-5)
