# SPDX-License-Identifier: Apache-2.0
"""The tokens behind an update: the inputs of the first layer lie in the row space of what it changed (DAGER, Petrov et
al. 2024, arXiv:2405.15586).

The gradient of a weight ``W`` [out, in] is a sum of output gradients times inputs, so its rows are combinations of the
inputs; of a LoRA pair B·A the rows of A's gradient are. The inputs of q, k and v of layer 0 are the normalised
embeddings of the tokens, whatever their order, in models that rotate positions later. So a token of the text lies
near the span of these rows, and any other token does not, as long as the span is not everything: with as many
directions as the model is wide, it says nothing.

A in the first SGD step from B = 0 does not move, and its update says nothing. Then B moves, whose rows are
combinations of A·input: `seen_through` gives candidates in that space, which tell something if a text has fewer
different tokens than A has rows. AdamW takes roots and signs of the gradient, which keeps its rows only about in the
span. The last token of a text is in no update unless an end of text behind it is trained on too: nothing is predicted
from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput

Floats = npt.NDArray[np.float64]


class RowSpan(NamedTuple):
    """Orthonormal ``directions`` ``[m, D]`` of updates' rows, strongest first, and their ``strengths`` ``[m]``, which
    are singular values over the largest."""

    directions: Floats
    strengths: Floats


def row_span(updates: Sequence[npt.NDArray[np.floating]], *, tolerance: float = 1e-4) -> RowSpan:
    """Span of the rows of some updates, such as those of A of q, k and v.

    Each update counts alike, whatever its size.

    Args:
        updates: ``[rows, D]`` each; a zero one adds nothing.
        tolerance: directions weaker than this share of the strongest are rounding.

    Returns:
        With no directions where nothing moved.

    Raises:
        BadInput: no updates, other widths, or numbers that are not finite.

    Examples:
        >>> span = row_span([np.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])])
        >>> span.directions.shape, span.strengths
        ((1, 3), array([1.]))
    """
    validate.in_range(0, 1, tolerance=tolerance)
    if len({update.shape[-1] for update in updates}) != 1 or any(update.ndim != 2 for update in updates):
        raise BadInput("updates", "must be matrices of one width", "Give those of layers that read the same input.")
    parts = []
    for update in updates:
        rows = update.astype(np.float64)
        length = np.linalg.norm(rows)
        if not np.isfinite(length):
            raise BadInput("updates", "hold a number that is not finite", "Drop that client.")
        if length > 0:
            parts.append(rows / length)
    if not parts:
        return RowSpan(np.zeros((0, updates[0].shape[1])), np.zeros(0))
    _, singular, directions = np.linalg.svd(np.concatenate(parts), full_matrices=False)
    kept = singular > tolerance * singular[0]
    return RowSpan(directions[kept], singular[kept] / singular[0])


def normalised(
    embeddings: npt.NDArray[np.floating], weight: npt.NDArray[np.floating], *, epsilon: float = 1e-6
) -> Floats:
    """Embeddings as the first layer's projections read them: through RMSNorm.

    Args:
        embeddings: ``[V, D]``.
        weight: ``[D]`` of the norm.
        epsilon: of the norm.

    Examples:
        >>> normalised(np.array([[3.0, 4.0]]), np.ones(2), epsilon=0.0).round(3)
        array([[0.849, 1.131]])
    """
    rows = embeddings.astype(np.float64)
    return rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + epsilon) * weight.astype(np.float64)


def seen_through(vectors: Floats, a_matrix: npt.NDArray[np.floating]) -> Floats:
    """Candidates as B reads them: ``[V, r]``, through A ``[r, D]``."""
    return vectors @ a_matrix.astype(np.float64).T


def span_distances(vectors: Floats, span: RowSpan) -> Floats:
    """How far each candidate's direction is from the span.

    Args:
        vectors: ``[V, D]``.
        span: of the same width.

    Returns:
        ``[V]`` from 0 (in it) to 1 (at a right angle to it, or a zero vector).

    Examples:
        >>> span_distances(np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]), row_span([np.array([[1.0, 0.0]])])).round(3)
        array([0.   , 1.   , 0.707])
    """
    return np.sqrt(np.clip(1 - _shares(vectors, span).sum(axis=1), 0, 1))


def span_energy(vectors: Floats, span: RowSpan) -> Floats:
    """How much of each candidate's direction the update holds, strong directions for more than weak ones.

    Better than `span_distances` where noise, or signs in place of gradients, fill all directions.

    Returns:
        ``[V]`` from 0 to 1, higher = more likely in the text.
    """
    return _shares(vectors, span) @ span.strengths**2


def _shares(vectors: Floats, span: RowSpan) -> Floats:
    """``[V, m]``: share of each candidate's squared length along each direction."""
    squares = np.einsum("vd,vd->v", vectors, vectors)[:, None]
    along = (vectors @ span.directions.T) ** 2
    return np.divide(along, squares, out=np.zeros_like(along), where=squares > 0)
