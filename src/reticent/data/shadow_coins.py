# SPDX-License-Identifier: Apache-2.0
"""The membership of each shadow model: coins of its own over the pool that the audited model was drawn from.

They know the seed, the ids and the users, and nothing of who the audited model was trained on. Models come in pairs
that share a number ``u`` for each unit: the one takes the unit where ``u`` is below the chance of being in, the other
where ``1 - u`` is. At a chance of one half every unit is so in exactly one model of each pair, as in the experiments of
LiRA (Carlini et al. 2022, arXiv:2112.03570), and further models change nothing about those that are there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.coin import uniform
from reticent.data.split import within_cap


def shadow_coins(
    records: Sequence[Record],
    membership: Membership,
    *,
    shadows: int,
    seed: int,
    probability: float = 0.5,
    train_fraction: float = 0.5,
    max_per_user: int | None = None,
) -> npt.NDArray[np.bool_]:
    """``[shadows, N]``: whether each model is trained on each record.

    A coin for each record, or for each user and then for each of their records, as ``membership.unit`` says. Users who
    were made canaries are in no model, and neither are texts that a cap keeps from training.

    Args:
        records: ``N``, in the order of ``membership``.
        membership: of the audited model. Only its unit, its users and its roles are looked at, and roles only as far as
            they follow from no coin.
        shadows: how many models, an even number.
        seed: of the coins.
        probability, train_fraction, max_per_user: of the audited model's split, see `reticent.data.split.split`.

    >>> from reticent.data.split import split
    >>> texts = [Record(id=f"r{number}", text="a text") for number in range(40)]
    >>> coins = shadow_coins(texts, split(texts, unit="record", seed=0), shadows=8, seed=0)
    >>> set(coins.sum(axis=0).tolist())
    {4}
    """
    pool = _pool(membership)
    ids = [record.id for record in records]
    by_user = membership.unit == "user"
    units = [str(record.user) for record in records] if by_user else ids
    coins = np.zeros((shadows, len(records)), dtype=bool)
    for pair in range(shadows // 2):
        unit = _numbers(seed, f"shadow {pair}", units)
        text = _numbers(seed, f"shadow text {pair // 2}", ids) if by_user else None
        for number in (0, 1):
            inside = _either(unit, probability, second=bool(number)) & pool
            if text is not None:
                # A user is in one model of each pair: over two pairs each of their texts is in one of the two.
                train = _either(text, train_fraction, second=bool(pair % 2)) & pool
                inside &= train & within_cap(records, train, seed, max_per_user)
            coins[2 * pair + number] = inside
    return coins


def _pool(membership: Membership) -> npt.NDArray[np.bool_]:
    """Records that may be trained on. In a split by record ``spare`` ones lie behind the cap; in one by user they are
    texts of users whose own coin kept them out."""
    role = membership.role.astype(str)
    out = {"canary"} if membership.unit == "user" else {"canary", "spare"}
    pool = ~np.isin(role, list(out))
    if membership.unit == "user":
        made_canaries = set(membership.user[role == "canary"])
        pool &= np.array([user not in made_canaries for user in membership.user], dtype=bool)
    return pool


def _numbers(seed: int, purpose: str, things: Sequence[str]) -> npt.NDArray[np.float64]:
    numbers = {thing: uniform(seed, purpose, thing) for thing in dict.fromkeys(things)}
    return np.array([numbers[thing] for thing in things], dtype=np.float64)


def _either(numbers: npt.NDArray[np.float64], chance: float, *, second: bool) -> npt.NDArray[np.bool_]:
    """In with probability ``chance``; the first and the second overlap as little as they can."""
    return numbers >= 1 - chance if second else numbers < chance
