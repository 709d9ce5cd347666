# SPDX-License-Identifier: Apache-2.0
"""From record scores to the user level: who counts as a member user, and which of their texts the attacker holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.core.membership import Membership

MIN_USERS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class UserEvidence:
    """The documents that the attacker holds, and the users they belong to.

    Args:
        rows: ``[N]`` bool: evaluated records that serve as the attacker's documents.
        users: ``[U]`` ids, sorted.
        member: ``[U]`` bool: the user's records were trained on.
        what: what is compared, for the report.
    """

    rows: npt.NDArray[np.bool_]
    users: npt.NDArray[np.str_]
    member: npt.NDArray[np.bool_]
    what: str


def user_evidence(coins: Membership) -> UserEvidence | None:
    """Fresh texts (never trained on) of every user where member users have some; else all texts.

    The attacker of user inference holds texts of the person, not the training records (arXiv:2310.09266 §3), so fresh
    texts are the honest evidence. None when there are no users, or fewer than ``MIN_USERS`` on a side.
    """
    if not coins.has_users:
        return None
    fresh = ~coins.member
    with_fresh = np.unique(coins.user[fresh & coins.user_member].astype(str))
    if len(with_fresh) >= MIN_USERS:
        rows, what = fresh, "users by texts of theirs that were never trained on"
    else:
        rows = np.ones(len(coins), dtype=bool)
        what = "member users by texts that were trained on: the attacker holds training records"
    users, first = np.unique(coins.user[rows].astype(str), return_index=True)
    member = coins.user_member[rows][first]
    if min(member.sum(), (~member).sum()) < MIN_USERS:
        return None
    return UserEvidence(rows=rows, users=users, member=member, what=what)
