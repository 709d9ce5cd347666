# SPDX-License-Identifier: Apache-2.0
"""Units of private text that are compared: records or users whose texts could have been read, by coin or by a list.

Where coins were thrown for users, a user's texts that count are those that the second coin chose for training, on both
sides alike; a user counts where it left texts of both kinds, since of users who are out without any fresh text it
cannot be seen which coin the others had. Where whole users are in or out, all of their texts count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reticent.core.membership import Membership

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextUnits:
    """Units with the texts of theirs that count.

    Args:
        kind: ``"record"`` or ``"user"``.
        rows: ``[N]`` bool, of all records: those that count.
        owner: ``[N]`` names of the units of all records, compared or not.
        names: of the units that are compared.
        member: ``[U]`` bool.
    """

    kind: str
    rows: Bools
    owner: tuple[str, ...]
    names: tuple[str, ...]
    member: Bools


def owners(membership: Membership, kind: str) -> tuple[str, ...]:
    """``[N]``: whose each record is; one without a user is its own."""
    if kind == "record":
        return tuple(f"record {name}" for name in membership.record_id)
    return tuple(
        f"record {name}" if user is None else f"user {user}"
        for name, user in zip(membership.record_id, membership.user, strict=True)
    )


def record_units(membership: Membership) -> TextUnits:
    """Records that are compared with each other: of the same users, where coins were thrown for users."""
    rows = membership.at_record_level
    owner = owners(membership, "record")
    names = tuple(np.array(owner, dtype=object)[rows])
    return TextUnits(kind="record", rows=rows, owner=owner, names=names, member=membership.member[rows])


def user_units(membership: Membership) -> TextUnits | None:
    """Users who are in or out as a whole; None where there are none, or coins were thrown for records."""
    if membership.unit == "record" or not membership.has_users:
        return None
    rows = _as_if_trained(membership) if membership.unit == "user" else _of_one_side(membership)
    owner = owners(membership, "user")
    names = tuple(dict.fromkeys(np.array(owner, dtype=object)[rows]))
    inside = {name for name, row, member in zip(owner, rows, membership.user_member, strict=True) if row and member}
    member = np.array([name in inside for name in names], dtype=bool)
    return TextUnits(kind="user", rows=rows, owner=owner, names=names, member=member)


def coin_units(membership: Membership) -> TextUnits:
    """The units that changed sides as wholes, each by a coin of its own or as a list has it."""
    return user_units(membership) or record_units(membership)


def _as_if_trained(membership: Membership) -> Bools:
    ours = membership.role != "shared"
    fresh = ours & ~membership.member & membership.attacked
    if not (fresh & membership.user_member).any():
        return np.asarray(ours & np.isin(membership.role.astype(str), ("evaluate", "known")), dtype=bool)
    chosen = membership.member | (~membership.user_member & ours & np.isin(membership.role.astype(str), _NOT_FRESH))
    both = set(membership.user[fresh]) & set(membership.user[chosen])
    return np.array([row and user in both for row, user in zip(chosen, membership.user, strict=True)], dtype=bool)


_NOT_FRESH = ("spare", "known")


def _of_one_side(membership: Membership) -> Bools:
    evaluated = membership.role == "evaluate"
    sides: dict[str, set[bool]] = {}
    for user, member in zip(membership.user, membership.member, strict=True):
        sides.setdefault(user, set()).add(bool(member))
    return np.array(
        [row and len(sides[user]) == 1 for row, user in zip(evaluated, membership.user, strict=True)], dtype=bool
    )
