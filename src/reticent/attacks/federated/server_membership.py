# SPDX-License-Identifier: Apache-2.0
"""Membership as the server of a federation sees it: from each client's update, round by round.

The server knows the model that a client began with and what it sent back. A text that the client trained on becomes
more likely under the client's model in just that round, and its gradient points against the update (Nasr, Shokri and
Houmansadr 2019, arXiv:1812.00910). Scores are higher where the text is more likely the client's.

Clients as users: ``attacks.user.aggregate`` of any of these scores over a client's texts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.finding import Estimate

Floats = npt.NDArray[np.float64]


def loss_drop(client_loss: npt.ArrayLike, global_loss: npt.ArrayLike) -> Floats:
    """By how much the client's model of a round finds each text more likely than the global model that it began with.

    Args:
        client_loss: ``[..., N]`` nats a token under global arrays plus the client's update.
        global_loss: ``[..., N]`` under the global arrays.

    Returns:
        ``[..., N]`` nats a token, higher = more likely the client's.

    Raises:
        BadInput: other shapes, or a NaN.

    Examples:
        >>> loss_drop([1.0, 3.0], [2.5, 3.0])
        array([1.5, 0. ])
    """
    client, start = np.asarray(client_loss, dtype=np.float64), np.asarray(global_loss, dtype=np.float64)
    if client.shape != start.shape or np.isnan(client).any() or np.isnan(start).any():
        raise BadInput("losses", "must be of one shape, without NaN", "Score the same texts under both models.")
    return start - client


def gradient_alignment(
    gradients: Mapping[str, npt.NDArray[np.floating]], update: Mapping[str, npt.NDArray[np.floating]]
) -> Floats:
    """Cosine between a client's update and the descent on each text.

    Args:
        gradients: array → ``[N, ...]``, gradients of the texts' losses at the global arrays of the round.
        update: array → ``[...]``.

    Returns:
        ``[N]`` from -1 to 1, higher = more likely the client's; 0 where either is zero.

    Raises:
        BadInput: arrays of other names or shapes.

    Examples:
        >>> gradient_alignment({"a": np.array([[1.0, 0.0], [0.0, 2.0]])}, {"a": np.array([-3.0, 0.0])})
        array([1., 0.])
    """
    if set(gradients) != set(update) or not update:
        raise BadInput("gradients", "must be of the arrays of the update", "Take gradients of all trained arrays.")
    count = len(next(iter(gradients.values())))
    product, squares, length = np.zeros(count), np.zeros(count), 0.0
    for name, change in update.items():
        if gradients[name].shape != (count, *change.shape):
            raise BadInput(f"gradients of {name}", f"must be {(count, *change.shape)}", "Give one for each text.")
        rows = gradients[name].reshape(count, -1).astype(np.float64)
        flat = change.reshape(-1).astype(np.float64)
        product += rows @ flat
        squares += np.einsum("nd,nd->n", rows, rows)
        length += float(flat @ flat)
    scale = np.sqrt(squares * length)
    return np.divide(-product, scale, out=np.zeros(count), where=scale > 0) + 0.0  # no minus zeros


def over_rounds(scores: Floats, took_part: npt.NDArray[np.bool_]) -> Floats:
    """Mean score of each text over the rounds that its suspected client was in.

    Args:
        scores: ``[R, N]``.
        took_part: ``[R, N]``, or ``[R]`` where all texts are held against one client.

    Returns:
        ``[N]``; NaN where there was no such round.

    Examples:
        >>> over_rounds(np.array([[1.0, 2.0], [3.0, 9.0]]), np.array([[True, True], [True, False]]))
        array([2., 2.])
    """
    part = np.broadcast_to(took_part if took_part.ndim == 2 else took_part[:, None], scores.shape)
    rounds = part.sum(axis=0)
    total = np.where(part, scores, 0.0).sum(axis=0)
    return np.divide(total, rounds, out=np.full(scores.shape[1], np.nan), where=rounds > 0)


def auc_by_round(
    scores: Floats, member: npt.NDArray[np.bool_], owner: npt.NDArray[np.generic] | None = None
) -> tuple[Estimate, ...]:
    """AUC of each round, with an interval.

    Args:
        scores: ``[R, N]``.
        member: ``[N]``: the client trained on it.
        owner: ``[N]`` who each text is of, where several are of one person; they are not independent.

    Raises:
        BadInput: lengths that differ, or a side without texts.
    """
    from reticent.stats.clustered import auc_clustered  # here: a list of attacks does without scipy
    from reticent.stats.roc import auc

    validate.same_length(scores=scores.T, member=member)
    if owner is None:
        return tuple(auc(row[member], row[~member]) for row in scores)
    return tuple(auc_clustered(row[member], row[~member], owner[member], owner[~member]) for row in scores)
