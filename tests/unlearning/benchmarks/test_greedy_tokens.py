# SPDX-License-Identifier: Apache-2.0
"""Extraction strength by its definition, and the floor of the code that is in use."""

from __future__ import annotations

import numpy as np
import pytest

from reticent.core.errors import BadInput
from reticent.unlearning.benchmarks.greedy_tokens import exact_memorization, extraction_strength


def as_in_use(right):
    """Twin of the loop in open-unlearning: the counter stays at the last place where nothing matches."""
    for start in range(len(right)):
        if right[start:].all():
            break
    return 1 - start / len(right)


@pytest.mark.parametrize("seed", range(20))
def test_by_definition(seed):
    rng = np.random.default_rng(seed)
    right = rng.random(rng.integers(1, 12)) < 0.7
    starts = [start for start in range(len(right)) if right[start:].all()]
    expected = 1 - starts[0] / len(right) if starts else 0.0
    assert extraction_strength([right])[0] == pytest.approx(expected)
    assert extraction_strength([right], as_coded=True)[0] == pytest.approx(as_in_use(right))
    assert exact_memorization([right])[0] == pytest.approx(right.mean())


def test_golden_values():
    answers = [[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]
    assert extraction_strength(answers, as_coded=True).tolist() == [0.25, 0.25, 1.0]
    assert extraction_strength(answers).tolist() == [0.0, 0.25, 1.0]


@pytest.mark.parametrize("tokens", [[], [0.5], [[1, 0]], ["yes"]])
def test_refusals(tokens):
    with pytest.raises(BadInput):
        extraction_strength([tokens])
