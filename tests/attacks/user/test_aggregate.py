# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.attacks.user.aggregate import HOW, aggregate
from reticent.core.errors import BadInput

pair = st.tuples(st.sampled_from("abcde"), st.one_of(st.just(float("nan")), st.floats(-9, 9)))


@settings(max_examples=60, deadline=None)
@given(st.lists(pair, min_size=1, max_size=20), st.sampled_from(sorted(HOW)))
def test_equals_a_loop(pairs, how):
    user = np.array([owner for owner, _ in pairs], dtype=object)
    scores = np.array([value for _, value in pairs])
    users, got = aggregate(scores, user, how)
    reduce = {"mean": np.mean, "max": np.max, "min": np.min}[how]
    assert list(users) == sorted(set(user))
    for owner, score in zip(users, got, strict=True):
        values = [value for name, value in pairs if name == owner and not np.isnan(value)]
        np.testing.assert_allclose(score, reduce(values) if values else np.nan, atol=1e-12)


def test_refuses_unknown_ways_and_records_without_a_user():
    with pytest.raises(BadInput, match="how"):
        aggregate(np.zeros(1), np.array(["a"], dtype=object), "median")
    with pytest.raises(BadInput, match="no user"):
        aggregate(np.zeros(2), np.array(["a", None], dtype=object))
    with pytest.raises(BadInput, match="scores has 1"):
        aggregate(np.zeros(1), np.array(["a", "b"], dtype=object))
