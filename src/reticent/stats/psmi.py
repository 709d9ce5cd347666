# SPDX-License-Identifier: Apache-2.0
"""PSMI: how much a record's hidden state tells of its label. Low: the model cannot have it from a rule, so it will
memorize the record.

Pointwise sliced mutual information of "Predicting memorization within Large Language Models fine-tuned for
classification" (Dentan et al., ECAI 2025, arXiv:2409.18858): project the states on random directions; along each one
take a Gaussian for each label; average the pointwise mutual information of record and label over the directions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from reticent.core.errors import BadInput, Underpowered
from reticent.core.validate import positive, same_length
from reticent.stats.scores import Floats

PROJECTIONS = 2000
"""As the paper has it."""

CELLS = 1 << 22
"""Entries of one block of densities, so that memory does not grow with the number of projections."""


def psmi(hidden: ArrayLike, label: ArrayLike, *, projections: int = PROJECTIONS, seed: int = 0) -> Floats:
    """Pointwise sliced mutual information of each record's state and label, in nats. LOW = will be memorized.

    ``mean over j of log[ N(P_ij; m_yj, s_yj) / sum_c w_c N(P_ij; m_cj, s_cj) ]`` with ``P = hidden · θᵀ``, directions
    ``θ_j`` uniform on the sphere, mean ``m``, standard deviation ``s`` (n - 1 in its denominator) and share ``w`` of
    the records of each label. Each record is among those that its label's Gaussian is fitted to, so labels of few
    records look more informative than they are.

    Args:
        hidden: ``[N, D]`` states of one layer.
        label: ``[N]`` integers or strings.
        projections: directions.
        seed: of the directions.

    Returns:
        ``[N]``; about 0 or less: the state does not tell the label.

    Raises:
        BadInput: states that are not finite, or one label only.
        Underpowered: a label of one record, which has no spread.
    """
    positive(projections=projections)
    state, names = np.asarray(hidden, dtype=np.float64), np.asarray(label)
    if state.ndim != 2 or not state.size:
        raise BadInput(f"hidden of shape {state.shape}", "is no [N, D]", "Give one state a record.")
    same_length(hidden=state, label=names)
    if not np.isfinite(state).all():
        raise BadInput("hidden", "is not finite everywhere", "Look at the model: its states overflow.")
    _, number, count = np.unique(names, return_inverse=True, return_counts=True)
    if len(count) < 2:
        raise BadInput("label", "is the same for all records, so nothing can tell of it", "Use labels that differ.")
    if count.min() < 2:
        raise Underpowered("a label of 1 record", "it has no spread", "Use coarser labels.")
    rng = np.random.default_rng(seed)
    total = np.zeros(len(state))
    block = max(1, CELLS // (len(state) * len(count)))
    for start in range(0, projections, block):
        direction = rng.standard_normal((min(block, projections - start), state.shape[1]))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        total += _information(state @ direction.T, number, count).sum(axis=1)
    return total / projections


def _information(projected: Floats, number: NDArray[np.intp], count: NDArray[np.intp]) -> Floats:
    """``[N, J]`` pointwise mutual information along each of J directions."""
    n, labels = len(projected), len(count)
    log_density = np.empty((labels, *projected.shape))
    floor = 1e-9 * (projected.std(axis=0) + 1e-300)
    for label in range(labels):
        of_class = projected[number == label]
        spread = np.maximum(of_class.std(axis=0, ddof=1), floor)
        log_density[label] = -0.5 * ((projected - of_class.mean(axis=0)) / spread) ** 2 - np.log(spread)
    marginal = logsumexp(log_density + np.log(count / n)[:, None, None], axis=0)
    return np.asarray(log_density[number, np.arange(n)] - marginal)


def frequent(names: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Labels for `psmi` from names of which most are rare: the most frequent ones keep their own, the rest share 0.

    >>> frequent(["a", "b", "a", "c", "b", "a", "d"], 3)
    array([1, 2, 1, 0, 2, 1, 0])

    Args:
        names: ``[N]`` integers or strings.
        classes: labels at most, the shared one included. Fewer where fewer names occur twice: each label has at least
            two of ``names``, where there are two at all.
    """
    positive(classes=classes - 1)
    _, number, count = np.unique(np.asarray(names), return_inverse=True, return_counts=True)
    shared = [name for name in np.argsort(-count, kind="stable")[: classes - 1] if count[name] > 1]
    if shared and len(number) - int(count[shared].sum()) == 1:  # one alone has no spread, so it gets company
        shared.pop()
    label = np.zeros(len(count), dtype=np.int64)
    label[shared] = np.arange(1, len(shared) + 1)
    return label[number]
