# SPDX-License-Identifier: Apache-2.0
import numpy as np

from reticent.attacks.user.aggregate import aggregate
from reticent.attacks.user.user_inference import user_inference


def test_the_statistic_of_the_paper(table_of, rows_of):
    """T̂ = mean over documents of log(p_T(x) / p_ref(x)), each the whole document's probability."""
    target, reference = rows_of([3, 1, 5, 2], 0), rows_of([3, 1, 5, 2], 1)
    user = np.array(["a", "b", "a", "b"], dtype=object)
    users, scores = aggregate(user_inference(table_of(target), table_of(reference)), user, "mean")
    naive = {"a": [], "b": []}
    for row, other, owner in zip(target, reference, user, strict=True):
        naive[owner].append(sum(row) - sum(other))
    assert list(users) == ["a", "b"]
    np.testing.assert_allclose(scores, [np.mean(naive["a"]), np.mean(naive["b"])], rtol=1e-9)


def test_golden_sums_over_tokens(table_of):
    np.testing.assert_array_equal(user_inference(table_of([[-1.0, -1.0]]), table_of([[-2.0, -3.0]])), [3.0])
