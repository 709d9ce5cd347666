# SPDX-License-Identifier: Apache-2.0
"""Texts that several users have, each with a coin of its own: one may be in and another out, so none is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.split import check_sides


def set_aside_shared(records: Sequence[Record], membership: Membership) -> Membership:
    """``membership`` with the role ``"shared"`` for every record whose content another user has too.

    The role follows from the contents alone, never from a coin: among the records that are left, being in has the
    coin's own probability, as before. Nobody is trained on more or less: ``member`` stays.

    Args:
        records, membership: in the same order.

    Raises:
        BadInput: nothing is left to evaluate on a side.

    >>> from reticent.data.split import split
    >>> mails = [Record(id=f"{u}{i}", user=f"u{u}", text="Happy new year" if i == 0 else f"{u} {i}")
    ...          for u in range(9) for i in range(6)]
    >>> coins = set_aside_shared(mails, split(mails, unit="user", seed=0))
    >>> sorted(set(coins.record_id[coins.role == "shared"]))
    ['00', '10', '20', '30', '40', '50', '60', '70', '80']
    """
    holders: dict[str, set[str | None]] = {}
    contents = [record.content_hash for record in records]
    for record, content in zip(records, contents, strict=True):
        holders.setdefault(content, set()).add(record.user)
    shared = np.array([len(holders[content]) > 1 for content in contents], dtype=bool)
    if not shared.any():
        return membership
    changed = replace(membership, role=np.where(shared, "shared", membership.role).astype(object))
    check_sides(changed)
    return changed
