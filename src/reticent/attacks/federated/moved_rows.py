# SPDX-License-Identifier: Apache-2.0
"""The tokens behind an update of all weights: the rows of the embedding that moved.

A token that is not in the text has no gradient in the input embedding. Where the output layer shares the matrix, every
row moves a little, those of the text more. Weight decay moves every row along itself, which is taken off first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput


def moved_rows(
    change: npt.NDArray[np.floating], embeddings: npt.NDArray[np.floating] | None = None
) -> npt.NDArray[np.float64]:
    """How far each token's row moved.

    Args:
        change: ``[V, D]`` of the embedding.
        embeddings: ``[V, D]`` before it, to take off weight decay: the same share of every row, by the median row.

    Returns:
        ``[V]``, higher = more likely in the text.

    Raises:
        BadInput: other shapes, or numbers that are not finite.

    Examples:
        >>> moved_rows(np.array([[0.0, 0.0], [3.0, 4.0]]))
        array([0., 5.])
        >>> start = np.ones((3, 2))
        >>> moved_rows(-0.1 * start + np.array([[0, 0], [0, 0], [1, -1]]), start).round(3)
        array([0.   , 0.   , 1.414])
    """
    rows = change.astype(np.float64)
    if rows.ndim != 2 or (embeddings is not None and embeddings.shape != rows.shape) or not np.isfinite(rows).all():
        raise BadInput(f"a change of shape {rows.shape}", "must be [V, D] as the embedding, and finite", "Give that.")
    if embeddings is not None:
        start = embeddings.astype(np.float64)
        squares = np.einsum("vd,vd->v", start, start)
        along = np.einsum("vd,vd->v", rows, start)
        rows = rows - np.median(along[squares > 0] / squares[squares > 0]) * start
    return np.linalg.norm(rows, axis=1)
