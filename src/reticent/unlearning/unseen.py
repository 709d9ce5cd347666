# SPDX-License-Identifier: Apache-2.0
"""The rows that forgotten ones are compared with: never trained on, and of the same kind but for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from reticent.core.record import Record
from reticent.unlearning.forget_set import ForgetSet

Basis: TypeAlias = Literal["same users", "same source", "none"]

MIN_OF_USERS = 20
"""Rows of the same users from which these are compared and no others."""
COVERED = 0.8
"""Share of the forgotten rows whose users must have rows never trained on, for that."""


class Unseen(NamedTuple):
    """Rows never trained on.

    Args:
        records: in the order of the data.
        basis: whose they are: ``"same users"`` as the forgotten rows', or others of the ``"same source"``.
        aside: ids of forgotten rows that are not compared with them.
        note: a sentence for the person; empty where there is nothing to say.
    """

    records: tuple[Record, ...]
    basis: Basis
    aside: frozenset[str]
    note: str


def unseen_rows(forget: ForgetSet) -> Unseen:
    """The rows that a forgotten row should look like to every attack.

    Forgotten and unseen rows may differ in nothing but that the first were trained on: otherwise a model that has
    forgotten perfectly still tells them apart, or one that has not forgotten hides behind a difference that goes the
    other way. So

    * they come from one pool, and recorded coins alone decided which were trained on: held-out rows of the role
      ``"evaluate"``, and where coins fell by user all other (``"spare"``) rows of users who are out, which would have
      been trained on had their user's coin fallen the other way. Rows that serve attackers as known texts, or whose
      text another user has too, are not of that pool;
    * they are rows of the *same users* where these have enough of them, since writers differ more than texts do;
    * else, where whole users are forgotten and coins fell by user, rows of users who are all out: a forgotten user
      should look like one who never was there. Where users stay with a part of their rows, rows of users who are in;
    * an unseen row that repeats or quotes a forgotten one was seen in part. It is left out, and the forgotten one is
      not compared either: were only the unseen row taken away, conversations would be left on one side only.

    The choice looks at coins and texts and never at a score.

    Args:
        forget: what is forgotten.
    """
    rows, membership = forget.rows, forget.rows.membership
    by_user = membership.unit == "user"
    evaluated = membership.role == "evaluate"
    left_out = (membership.role == "spare") & ~membership.user_member & by_user
    pool = np.flatnonzero(~membership.member & ~rows.is_forgotten & (evaluated | left_out)).tolist()
    users = set(forget.users)
    theirs = [place for place in pool if rows.records[place].user in users]
    clean = [place for place in theirs if place not in forget.unclean]
    having = {rows.records[place].user for place in clean}
    covered = sum(record.user in having for record in forget.records) / len(forget.records)
    if len(clean) >= MIN_OF_USERS and covered >= COVERED:
        return _without_unclean(forget, theirs, "same users")
    if by_user:
        whole = len(forget.whole_users) * 2 > len(users)
        fitting = [place for place in pool if bool(membership.user_member[place]) != whole]
        pool = fitting or pool
    return _without_unclean(forget, pool, "same source")


def _without_unclean(forget: ForgetSet, pool: Sequence[int], basis: Basis) -> Unseen:
    """The rows of ``pool`` that share nothing with a forgotten one, and the forgotten rows that share with others."""
    records = forget.rows.records
    unclean = [place for place in pool if place in forget.unclean]
    aside = {records[source].id for place in unclean for source in forget.unclean[place]}
    clean = tuple(records[place] for place in pool if place not in forget.unclean)
    note = f"{len(unclean)} more repeat or quote {len(aside)} forgotten rows and are left out" if unclean else ""
    return Unseen(clean, basis if clean else "none", frozenset(aside), note)
