# SPDX-License-Identifier: Apache-2.0
"""Re-thrown coins of a level: the units that trade labels, known from recorded coins or assumed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reticent.core.membership import Membership
from reticent.stats.relabel import Design, free, whole, within


@dataclass(frozen=True, kw_only=True, eq=False)
class Rethrow:
    """The labellings that the real one of a level is compared with.

    Args:
        design: groups of units that trade labels.
        exact: True where recorded coins give the design; otherwise it is assumed.
        said: in words, for the report.
    """

    design: Design
    exact: bool
    said: str


def of_records(membership: Membership) -> Rethrow:
    """For records that are compared at record level.

    * A coin for each record: all records trade.
    * A coin for each user and one for each of their records: records trade within each user. Over users they do not:
      whoever got no training record is left out, so among users with few records members are more common.
    * Given lists: users who are on one side trade as a whole, records of the others within their user; without users
      all records trade. That is an assumption: it holds where who was trained on had nothing to do with the text.

    Args:
        membership: of these records, ``[N]``.
    """
    if membership.unit == "record":
        return Rethrow(design=free(len(membership)), exact=True, said="the coins of the records, thrown again")
    if membership.unit == "user":
        statement = "the coins of each user's records, thrown again"
        return Rethrow(design=within(membership.user), exact=True, said=statement)
    if not membership.has_users:
        statement = "records change sides at random, which assumes that each could as well have been on the other"
        return Rethrow(design=free(len(membership)), exact=False, said=statement)
    statement = "whole users change sides at random, which assumes that each could as well have been on the other"
    return Rethrow(design=whole(membership.user, membership.member), exact=False, said=statement)


def of_users(users: int, unit: str) -> Rethrow:
    """For users, of which each had a coin of its own (``unit="user"``) or was given.

    Args:
        users: their number.
        unit: of the split: ``"record"``, ``"user"`` or ``"given"``.
    """
    exact = unit == "user"
    statement = (
        "the coins of the users, thrown again"
        if exact
        else "users change sides at random, which assumes that each could as well have been on the other"
    )
    return Rethrow(design=free(users), exact=exact, said=statement)


def sides_of(design: Design, member: np.ndarray) -> tuple[int, int]:
    """Numbers of blocks that can change sides: members, held-out."""
    label = np.zeros(design.blocks, dtype=bool)
    label[design.block] = member
    inside = np.bincount(design.stratum_of_block, weights=label)
    count = np.bincount(design.stratum_of_block)
    moving = ((inside > 0) & (inside < count))[design.stratum_of_block]
    return int((label & moving).sum()), int((~label & moving).sum())
