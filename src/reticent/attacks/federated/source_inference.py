# SPDX-License-Identifier: Apache-2.0
"""Source inference: the client that holds a text, out of all that took part (Hu et al. 2021, arXiv:2109.05659).

That a text was trained on may be known; who brought it is not. The guess is the client whose model of the round finds
the text most likely. With k clients a guess by chance is right once in k.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate


class SourceAccuracy(NamedTuple):
    """How often the guess is right: with an exact interval, beside chance, and the chance to do so well by guessing
    (one-sided; for independent texts)."""

    right: Estimate
    chance: float
    p_value: float


def likely_sources(losses: npt.ArrayLike, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """For each text the client under whose model its loss is lowest.

    Args:
        losses: ``[K, N]`` nats a token under each client's model.
        seed: of the coins between clients with the same loss, so that the first has no advantage.

    Returns:
        ``[N]`` numbers of clients.

    Raises:
        BadInput: fewer than two clients, or a NaN.

    Examples:
        >>> likely_sources([[1.0, 5.0, 2.0], [2.0, 4.0, 1.0]])
        array([0, 1, 1])
    """
    table = np.asarray(losses, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or np.isnan(table).any():
        raise BadInput(f"losses of shape {table.shape}", "must be [clients, texts], without NaN", "Give two clients.")
    validate.seed(seed=seed)
    coins = np.random.default_rng(seed).random(table.shape)
    lowest = table == table.min(axis=0)
    return np.where(lowest, coins, -1.0).argmax(axis=0)


def source_accuracy(
    guess: npt.NDArray[np.int64],
    source: npt.NDArray[np.int64],
    *,
    clients: int,
    owner: npt.NDArray[np.generic] | None = None,
) -> SourceAccuracy:
    """Accuracy of guesses beside chance.

    Args:
        guess: ``[N]``.
        source: ``[N]``, the true client of each text.
        clients: k, that there were to choose from.
        owner: ``[N]``, where several texts are of one person or client, which widens the interval.

    Examples:
        >>> shown = source_accuracy(np.array([0, 1, 1, 3]), np.array([0, 1, 2, 3]), clients=4)
        >>> shown.right.value, shown.chance, round(shown.p_value, 3)
        (0.75, 0.25, 0.051)
    """
    from scipy.stats import binomtest  # here: a list of attacks does without scipy

    from reticent.stats.proportions import share

    validate.same_length(guess=guess, source=source)
    validate.in_range(1, np.inf, clients=clients)
    hits = guess == source
    p_value = float(binomtest(int(hits.sum()), len(hits), 1 / clients, alternative="greater").pvalue)
    return SourceAccuracy(share(hits.astype(float), owner), 1 / clients, p_value)
