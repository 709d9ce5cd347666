# SPDX-License-Identifier: Apache-2.0
"""Panel: the records that are looked at while a model trains, drawn by hash, and how many of them a training allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.canaries import Canary
from reticent.data.coin import uniform
from reticent.models.encode import encode

OVERHEAD = 0.1
"""Most that all looks together may cost, as a share of the training."""
LOOK_COST = 0.5
"""Upper bound on the cost of evaluating one token, relative to training on one: the forward pass. A training pass is
three times that with full fine-tuning and twice with adapters (no gradient of frozen weights), and the optimizer comes
on top."""
FEWEST, MOST = 10, 2000
"""Records of a side: fewer say nothing, and more cost time and no longer sharpen what is said."""
CONTROL, NO_TIER = -1, -2
_SAMPLE = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """The records that are evaluated while a model trains, ``N`` of them.

    Args:
        records: ``[N]``.
        role: ``[N]``: ``"evaluate"``: members and held-out records that are compared; ``"fresh"``: further texts that
            were never trained on, by which users are told apart; ``"canary"``: planted secrets and controls;
            ``"canary_user"``: texts, never trained on, of users who got a phrase of their own.
        member: ``[N]`` bool: trained on.
        user: ``[N]``, ``None`` where unknown.
        user_member: ``[N]`` bool: some record of the user is trained on.
        tier: ``[N]``: how often a secret is planted, 0 if its coin left it out, ``CONTROL`` for those that had no
            coin; ``NO_TIER`` for what is no secret.
        unit: what coins were thrown for: "record", "user" or "given".
    """

    records: tuple[Record, ...]
    role: npt.NDArray[np.object_]
    member: npt.NDArray[np.bool_]
    user: npt.NDArray[np.object_]
    user_member: npt.NDArray[np.bool_]
    tier: npt.NDArray[np.int32]
    unit: str

    def __post_init__(self) -> None:
        if len({len(self.records), len(self.role), len(self.member), len(self.user), len(self.tier)}) != 1:
            raise ValueError("columns of a panel differ in length")

    def __len__(self) -> int:
        return len(self.records)

    def of(self, role: str, *, member: bool | None = None) -> npt.NDArray[np.bool_]:
        """``[N]``: records of the role, on one side where asked."""
        wanted: npt.NDArray[np.bool_] = self.role == role
        return wanted if member is None else wanted & (self.member == member)

    def take(self, rows: npt.NDArray[np.bool_]) -> Panel:
        """Some of it."""
        return Panel(
            records=tuple(record for record, chosen in zip(self.records, rows, strict=True) if chosen),
            role=self.role[rows],
            member=self.member[rows],
            user=self.user[rows],
            user_member=self.user_member[rows],
            tier=self.tier[rows],
            unit=self.unit,
        )


def looks_of(epochs: float, steps_per_epoch: int, every: int | None) -> int:
    """How often a training is looked at: before it, and after each epoch or every so many steps, and at its end."""
    return 1 + math.ceil(epochs if every is None else epochs * steps_per_epoch / every)


def budget_of(tokens: int, epochs: float, looks: int) -> int:
    """Tokens that a panel may have: ``OVERHEAD · epochs · tokens / (LOOK_COST · looks)``.

    It follows from counts alone and not from measured time, so that a training that is gone on with looks at the same
    panel. ``tokens`` are those of all training records, once.
    """
    return int(OVERHEAD * epochs * tokens / (LOOK_COST * looks))


def make_panel(
    records: Sequence[Record],
    membership: Membership,
    canaries: Sequence[Canary] = (),
    *,
    size: int | None = None,
    budget: int | None = None,
    length: Callable[[Record], int] | None = None,
) -> Panel:
    """Draw a panel. The same data and coins give the same panel; a larger one holds a smaller one.

    Records are taken in the order of a hash of their ids: as many members as held-out records, all of the role
    "evaluate". Where coins were thrown for users, held-out records are those of users who are in, so that both sides
    are written by the same people, and of the fresh texts of users who are out those are added whose hash is not above
    that of the last held-out record: so users on both sides show texts chosen by the same coin.

    Args:
        records: all that coins were thrown for.
        membership: of ``records``, in their order.
        canaries: secrets with a coin and controls. All are taken, but with a ``budget`` only as many controls as fit
            into a third of it.
        size: members, and held-out records (fewer where there are no more); None: as the budget allows.
        budget: tokens of the whole panel; needs ``length``. At least ``FEWEST`` records of each side are taken, at most
            ``MOST``.
        length: tokens of a record.

    Raises:
        BadInput: there are no members or no held-out records to look at.

    Examples:
        >>> from reticent.data.split import split
        >>> mails = [Record(id=f"mail {number}", text="hello", user=f"u{number % 9}") for number in range(90)]
        >>> panel = make_panel(mails, split(mails, unit="record", seed=0), size=10)
        >>> len(panel), int(panel.member.sum())
        (20, 10)
    """
    if (size is None) == (budget is None):
        raise ValueError("give a size or a budget")
    seed = max(membership.seed, 0)
    pools = _pools(membership, seed)
    for side, rows in (("members", pools.members), ("held-out records", pools.held_out)):
        if not len(rows):
            raise BadInput("the split", f"has no {side} that could be looked at", "Give more records.")
    planted = list(canaries)
    if size is None:
        assert budget is not None
        assert length is not None
        planted, left = _affordable(planted, budget, length, seed)
        size = _size(records, pools, left, length)
    panel_sides = pools.members[:size], pools.held_out[:size]
    cut = pools.draw[panel_sides[1][-1]] if size < len(pools.held_out) else 1.0
    rows = np.concatenate([*panel_sides, pools.fresh[pools.draw[pools.fresh] <= cut]])
    return _panel(records, membership, rows, planted)


def fitting_panel(
    records: Sequence[Record],
    membership: Membership,
    canaries: Sequence[Canary],
    *,
    trained: Sequence[Record],
    epochs: int,
    batch_size: int,
    every: int | None,
    tokenizer: Any,
    max_tokens: int | None,
) -> Panel:
    """The largest panel that keeps the looks within ``OVERHEAD`` of the training, see `budget_of` and `make_panel`.

    Args:
        trained: what is trained on, with copies of secrets. Its tokens are counted, from 500 records on estimated from
            500 of them, chosen by a hash.
        epochs, batch_size, every: as in `looks_of`.
        tokenizer, max_tokens: as in training.
    """

    def length(record: Record) -> int:
        return len(encode(record, tokenizer, max_tokens=max_tokens))

    sample = sorted(trained, key=lambda record: uniform(0, "length", record.id))[:_SAMPLE]
    tokens = sum(map(length, sample)) * len(trained) / len(sample)
    looks = looks_of(epochs, math.ceil(len(trained) / batch_size), every)
    return make_panel(records, membership, canaries, budget=budget_of(int(tokens), epochs, looks), length=length)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pools:
    """Rows that can be taken, each side in the order of ``draw`` ``[all records]``."""

    draw: npt.NDArray[np.float64]
    members: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]
    fresh: npt.NDArray[np.int64]


def _pools(coins: Membership, seed: int) -> _Pools:
    draw = np.array([uniform(seed, "panel", id_) for id_ in coins.record_id])
    evaluate, out = coins.role == "evaluate", ~coins.member
    held_out = evaluate & out
    fresh = (coins.role == "canary") & out  # with these, users have a phrase of their own
    if coins.unit == "user":
        held_out, fresh = held_out & coins.user_member, fresh | (held_out & ~coins.user_member)
        fresh |= (coins.role == "fresh") & out

    def ordered(rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        chosen = np.flatnonzero(rows)
        return chosen[np.argsort(draw[chosen], kind="stable")]

    return _Pools(draw=draw, members=ordered(evaluate & coins.member), held_out=ordered(held_out), fresh=ordered(fresh))


def _affordable(
    canaries: Sequence[Canary], budget: int, length: Callable[[Record], int], seed: int
) -> tuple[list[Canary], int]:
    """All secrets that had a coin, controls up to a third of the budget, and what is left of it."""
    spent = sum(length(canary.record) for canary in canaries if not canary.is_control)
    affordable = {canary.id for canary in canaries if not canary.is_control}
    for canary in sorted(canaries, key=lambda canary: uniform(seed, "panel", canary.id)):
        if not canary.is_control:
            continue
        more = length(canary.record)
        if spent + more > budget / 3:
            break
        spent += more
        affordable.add(canary.id)
    return [canary for canary in canaries if canary.id in affordable], budget - spent


def _size(records: Sequence[Record], pools: _Pools, budget: int, length: Callable[[Record], int]) -> int:
    """The most records of a side whose tokens, with those of the fresh texts that come with them, fit."""
    most = min(MOST, max(len(pools.members), len(pools.held_out)))
    spent, fresh, size = 0, 0, 0
    while size < most:
        for side in (pools.members, pools.held_out):
            spent += length(records[side[size]]) if size < len(side) else 0
        cut = pools.draw[pools.held_out[size]] if size < len(pools.held_out) else 1.0
        while fresh < len(pools.fresh) and pools.draw[pools.fresh[fresh]] <= cut:
            spent += length(records[pools.fresh[fresh]])
            fresh += 1
        if spent > budget and size >= FEWEST:
            break
        size += 1
    return size


def _panel(
    records: Sequence[Record], coins: Membership, rows: npt.NDArray[np.int64], canaries: Sequence[Canary]
) -> Panel:
    outside = ~coins.member[rows] & (coins.unit == "user") & (~coins.user_member[rows] | (coins.role[rows] == "fresh"))
    role = np.where(coins.role[rows] == "canary", "canary_user", np.where(outside, "fresh", "evaluate"))
    planted = np.array([canary.planted for canary in canaries], dtype=bool)
    tiers = [CONTROL if canary.is_control else canary.repetitions * canary.planted for canary in canaries]
    return Panel(
        records=(*(records[row] for row in rows), *(canary.record for canary in canaries)),
        role=np.array([*role, *["canary"] * len(canaries)], dtype=object),
        member=np.concatenate([coins.member[rows], planted]),
        user=np.concatenate([coins.user[rows], np.full(len(canaries), None, dtype=object)]),
        user_member=np.concatenate([coins.user_member[rows], planted]),
        tier=np.concatenate([np.full(len(rows), NO_TIER), np.array(tiers, dtype=np.int64)]).astype(np.int32),
        unit=coins.unit,
    )
