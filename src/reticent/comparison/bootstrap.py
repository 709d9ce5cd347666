# SPDX-License-Identifier: Apache-2.0
"""One set of resamples for all trainings, so that what differs between two of them is not who happened to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reticent.comparison.snapshots import Floats, Mask, Snapshots, common_held_out
from reticent.stats.clustered import MIN_CLUSTERS, MIN_USERS
from reticent.stats.resampling import cluster_weights, weighted_auc, weighted_mean, weighted_tpr

MIN_HELD_OUT = 100
"""For the TPR at 10 % FPR: ten expected false positives."""
FPR = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class SnapshotStats:
    """One look's statistics, each ``[1 + B]``: the value, then what each resample gave. None where refused.

    Args:
        loss: held-out, nats a token.
        auc, tpr_at_10pct_fpr: of the gain over the base, records.
        gap: held-out minus members, mean loss of a record, nats a token.
        user_auc: of the mean over a user's fresh texts of the log-likelihood ratio to the base (arXiv:2310.09266).
        user_gap: mean over users who are in of the gain on their fresh texts, minus that over users who are out, nats a
            token.
    """

    loss: Floats
    auc: Floats
    tpr_at_10pct_fpr: Floats | None
    gap: Floats
    user_auc: Floats | None
    user_gap: Floats | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Resamples:
    """Resampled clusters: users where every record has one and there are enough, else records.

    Args:
        weight: ``[clusters, 1 + B]``.
        number: cluster by its name.
        by_user: whether clusters are users.
        held_out: ids of the records that utility is measured on.
    """

    weight: Floats
    number: dict[str, int]
    by_user: bool
    held_out: frozenset[str]

    def of(self, looks: Snapshots) -> Floats:
        """``[N, 1 + B]``: weights of a panel's records."""
        names = looks.user if self.by_user else looks.record_id
        return self.weight[[self.number[name] for name in names.tolist()]]

    def of_users(self, users: Sequence[str]) -> Floats:
        """``[U, 1 + B]``; ones and fresh draws where clusters are not users."""
        if self.by_user:
            return self.weight[[self.number[user] for user in users]]
        return cluster_weights(len(users), n_boot=self.weight.shape[1] - 1, seed=1)


def make_resamples(looks: Sequence[Snapshots], *, n_boot: int = 1000, seed: int = 0) -> Resamples:
    """Resamples for trainings with these looks."""
    users = {user for history in looks for user in history.user.tolist()}
    by_user = None not in users and len(users) >= MIN_CLUSTERS
    names = users if by_user else {id_ for history in looks for id_ in history.record_id.tolist()}
    ordered = sorted(names)
    return Resamples(
        weight=cluster_weights(len(ordered), n_boot=n_boot, seed=seed),
        number={name: i for i, name in enumerate(ordered)},
        by_user=by_user,
        held_out=frozenset(common_held_out(looks)),
    )


def utility_rows(looks: Snapshots, resamples: Resamples) -> Mask:
    """``[N]``: records whose loss is the utility, the same for all trainings."""
    return np.array([id_ in resamples.held_out for id_ in looks.record_id.tolist()], dtype=bool)


def base_loss(looks: Snapshots, resamples: Resamples) -> Floats:
    """``[1 + B]`` held-out loss of the base, nats a token."""
    rows = utility_rows(looks, resamples)
    return weighted_mean(looks.base_nll[rows], looks.tokens[rows], resamples.of(looks)[rows])


def measure(looks: Snapshots, at: int, resamples: Resamples) -> SnapshotStats:
    """Statistics of the look ``at``."""
    weight = resamples.of(looks)
    useful, rows = utility_rows(looks, resamples), looks.attacked
    member, gain = looks.member[rows], looks.gain[at][rows]
    mean_loss = (looks.nll[at] / looks.tokens)[rows]
    ones = np.ones(int(rows.sum()))
    rate = None
    if int((~member).sum()) >= MIN_HELD_OUT:
        rate = weighted_tpr(gain, member, weight[rows], fpr=FPR)
    if rate is not None and not gain.any():  # all scores are equal: what a coin would catch
        rate = np.full(weight.shape[1], FPR)
    users = _users(looks, at, resamples)
    return SnapshotStats(
        loss=weighted_mean(looks.nll[at][useful], looks.tokens[useful], weight[useful]),
        auc=weighted_auc(gain, member, weight[rows]),
        tpr_at_10pct_fpr=rate,
        gap=weighted_mean(mean_loss[~member], ones[~member], weight[rows][~member])
        - weighted_mean(mean_loss[member], ones[member], weight[rows][member]),
        user_auc=users[0] if users else None,
        user_gap=users[1] if users else None,
    )


def _users(looks: Snapshots, at: int, resamples: Resamples) -> tuple[Floats, Floats] | None:
    """AUC and gap of users by their fresh texts; None where no fair comparison can be made."""
    if not looks.by_user or any(user is None for user in looks.user.tolist()):
        return None
    rows = looks.fresh
    users, first, owner = np.unique(looks.user[rows].astype(str), return_index=True, return_inverse=True)
    inside = looks.user_member[rows][first]
    if min(inside.sum(), (~inside).sum()) < MIN_USERS:
        return None
    texts = np.bincount(owner)
    ratio = np.bincount(owner, weights=(looks.base_nll - looks.nll[at])[rows]) / texts
    gain = np.bincount(owner, weights=looks.gain[at][rows]) / texts
    weight, ones = resamples.of_users(users.tolist()), np.ones(len(users))
    gap = weighted_mean(gain[inside], ones[inside], weight[inside]) - weighted_mean(
        gain[~inside], ones[~inside], weight[~inside]
    )
    return weighted_auc(ratio, inside, weight), gap
