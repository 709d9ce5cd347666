# SPDX-License-Identifier: Apache-2.0
"""Every token predicted once, from enough that precedes it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.core.errors import BadInput
from reticent.score.windows import Window, windows


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 300), st.integers(2, 40), st.data())
def test_each_token_is_predicted_once_from_enough_context(tokens, size, data):
    overlap = data.draw(st.integers(1, size - 1))
    found = windows(tokens, size, overlap)
    predicted = [token for window in found for token in range(window.first, window.stop)]
    assert predicted == list(range(1, tokens))
    for i, window in enumerate(found):
        assert 0 <= window.start < window.first < window.stop <= tokens
        assert window.stop - 1 - window.start <= size
        assert window.first - window.start == (overlap if i else 1)


def test_the_drawing_in_the_docstring():
    assert windows(12, 6, 2) == [Window(0, 1, 7), Window(5, 7, 12)]


@pytest.mark.parametrize("tokens", [0, 1])
def test_nothing_to_predict(tokens):
    assert windows(tokens, 8) == []


def test_a_text_that_fits_is_one_window():
    assert windows(9, 8) == [Window(0, 1, 9)]
    assert len(windows(10, 8)) == 2


@pytest.mark.parametrize(("size", "overlap"), [(1, None), (8, 8), (8, 0)])
def test_impossible_windows_are_refused(size, overlap):
    with pytest.raises(BadInput):
        windows(20, size, overlap)
