# SPDX-License-Identifier: Apache-2.0
"""From record scores to the user level: member users, and the texts of theirs that the attacker holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.core.membership import Membership
from reticent.data.coin import uniform
from reticent.stats.clustered import MIN_USERS


@dataclass(frozen=True, kw_only=True, eq=False)
class UserEvidence:
    """The documents that the attacker holds, and the users they belong to.

    Args:
        rows: ``[N]`` bool: evaluated records that serve as the attacker's documents.
        users: ``[U]`` ids, sorted.
        member: ``[U]`` bool: the user's records were trained on.
        what: the comparison in words, for the report.
    """

    rows: npt.NDArray[np.bool_]
    users: npt.NDArray[np.str_]
    member: npt.NDArray[np.bool_]
    what: str


def user_evidence(membership: Membership) -> UserEvidence | None:
    """The texts by which users are told apart; None when no fair comparison of users can be made.

    The attacker of user inference holds texts of the person, not the training records (arXiv:2310.09266 §3), so texts
    that were never trained on are the honest evidence.

    * Coins thrown for users: fresh texts on both sides; the split sees to it that both sides show as many.
    * Membership given by the person: fresh texts where ``MIN_USERS`` member users have some, else all texts; each user
      is shown by the same number of texts, chosen by hash, because a maximum over more texts is larger.
    * Coins thrown for records: none. Users who are out are then only those with few records.
    """
    if membership.unit == "record" or not membership.has_users:
        return None
    fresh = ~membership.member
    inside = np.unique(membership.user[fresh & membership.user_member].astype(str))
    rows, what = fresh, "users by texts of theirs that were never trained on"
    if membership.unit == "given":
        if len(inside) < MIN_USERS:
            rows = np.ones(len(membership), dtype=bool)
            what = "member users by texts that were trained on: the attacker holds training records"
        rows = _same_number(membership, rows)
    users, first = np.unique(membership.user[rows].astype(str), return_index=True)
    member = membership.user_member[rows][first]
    if min(member.sum(), (~member).sum()) < MIN_USERS:
        return None
    return UserEvidence(rows=rows, users=users, member=member, what=what)


def _same_number(membership: Membership, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The same number of rows for each user, chosen by hash: the one that leaves the most texts on the smaller side."""
    _, first, owner, count = np.unique(
        membership.user[rows].astype(str), return_index=True, return_inverse=True, return_counts=True
    )
    if not len(first):
        return rows
    inside = membership.user_member[rows][first]
    sizes = np.arange(1, count.max() + 1)
    texts_on_smaller = [size * min((count[half] >= size).sum() for half in (inside, ~inside)) for size in sizes]
    size = int(sizes[np.argmax(texts_on_smaller)])
    place = np.flatnonzero(rows)
    number = np.array([uniform(0, "document", membership.record_id[row]) for row in place.tolist()])
    order = np.lexsort((number, owner))
    turn = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
    chosen = np.zeros(len(membership), dtype=bool)
    chosen[place[order[(turn < size) & (count[owner[order]] >= size)]]] = True
    return chosen
