# SPDX-License-Identifier: Apache-2.0
"""How much of clients' texts an inversion gave back: by token, by sentence, over several updates.

Each update is one unit: its tokens and sentences are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.finding import Estimate

Floats = npt.NDArray[np.float64]


def token_auc(scores: Floats, present: Collection[int]) -> float:
    """Chance that a token of the texts scores above another one of the vocabulary; ties count half.

    Args:
        scores: ``[V]``, higher = more likely in the texts.
        present: ids of the tokens that are in them.

    Examples:
        >>> token_auc(np.array([0.9, 0.1, 0.8, 0.8]), {0, 2})
        0.875
    """
    from reticent.stats.roc import placements  # here: a list of attacks does without scipy

    inside = _inside(scores, present)
    return float(placements(scores[inside], scores[~inside]).member.mean())


def token_recall(scores: Floats, present: Collection[int]) -> float:
    """Share of the texts' different tokens among as many best-scored ones; ties count by the share that fits.

    Examples:
        >>> token_recall(np.array([0.9, 0.1, 0.8, 0.8]), {0, 2})
        0.75
        >>> token_recall(np.zeros(4), {0, 2})
        0.5
    """
    inside = _inside(scores, present)
    count = int(inside.sum())
    last = np.sort(scores)[-count]
    above, tied = scores > last, scores == last
    fits = (count - above.sum()) / tied.sum()
    return float((above & inside).sum() + fits * (tied & inside).sum()) / count


def best_tokens(scores: Floats, count: int) -> npt.NDArray[np.int64]:
    """Ids of the ``count`` best-scored tokens, best first."""
    return np.argsort(-scores, kind="stable")[:count]


def exact_sentences(guessed: Collection[tuple[int, ...]], texts: Sequence[tuple[int, ...]]) -> float:
    """Share of the texts that are among the guesses, token by token.

    Examples:
        >>> exact_sentences([(1, 2), (3, 4)], [(1, 2), (4, 3)])
        0.5
    """
    if not texts:
        raise BadInput("texts", "must be one at least", "Give the client's texts.")
    return float(np.mean([text in set(guessed) for text in texts]))


def over_updates(values: Sequence[float]) -> Estimate:
    """Mean over updates, with an interval for values from 0 to 1 of independent updates."""
    from reticent.stats.proportions import share  # here: a list of attacks does without scipy

    return share(np.asarray(values, dtype=np.float64))


def _inside(scores: Floats, present: Collection[int]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(scores), dtype=bool)
    inside[list(present)] = True
    if inside.all() or not inside.any() or np.isnan(scores).any():
        raise BadInput(
            "tokens", "must be some of the vocabulary, each with a score", "Give ids and scores of one model."
        )
    return inside
