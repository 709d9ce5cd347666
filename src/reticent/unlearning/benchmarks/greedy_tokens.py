# SPDX-License-Identifier: Apache-2.0
"""How many tokens of an answer are the most likely ones, given the true tokens before them: one teacher-forced pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reticent.core.errors import BadInput
from reticent.stats.scores import Floats


def extraction_strength(correct: Sequence[ArrayLike], *, as_coded: bool = False) -> Floats:
    """``[N]`` share of an answer that greedy decoding completes without a mistake, 0 to 1 (arXiv:2012.07805).

    ``1 - k/n`` for the smallest k such that tokens k to n are all right. With the last token wrong nothing follows, and
    it is 0; open-unlearning's code gives 1/n there, the same as with only the last token right.

    Args:
        correct: ``N`` arrays: for each token of the answer, without the end-of-text token, true where it is the most
            likely one given the true tokens before it.
        as_coded: with that floor, for comparing with published numbers.

    Examples:
        >>> answers = [[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]
        >>> extraction_strength(answers).tolist(), extraction_strength(answers, as_coded=True).tolist()
        ([0.0, 0.25, 1.0], [0.25, 0.25, 1.0])
    """
    strengths = []
    for row, tokens in enumerate(correct):
        right = _tokens_right(tokens, row)
        wrong = np.flatnonzero(~right)
        strength = 1.0 - (wrong[-1] + 1) / len(right) if len(wrong) else 1.0
        strengths.append(max(strength, 1 / len(right)) if as_coded else strength)
    return np.array(strengths, dtype=np.float64)


def exact_memorization(correct: Sequence[ArrayLike]) -> Floats:
    """``[N]`` share of an answer's tokens that are the most likely ones, given the true ones before (arXiv:2205.10770).

    Examples:
        >>> exact_memorization([[0, 0, 1, 1]]).tolist()
        [0.5]
    """
    return np.array([_tokens_right(tokens, row).mean() for row, tokens in enumerate(correct)], dtype=np.float64)


def _tokens_right(tokens: ArrayLike, row: int) -> NDArray[np.bool_]:
    right = np.asarray(tokens)
    if right.ndim != 1 or not len(right) or not np.isin(right, (0, 1)).all():
        raise BadInput(f"correct[{row}]", "is no row of true and false", "Give one for each token, at least one.")
    return np.asarray(right, dtype=np.bool_)
