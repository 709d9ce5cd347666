# SPDX-License-Identifier: Apache-2.0
"""The settings of a split, and the coins that are thrown by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reticent.core import validate
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.data.shared_texts import set_aside_shared
from reticent.data.split import split


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How coins decide who is trained on.

    Args:
        split_unit: "user" throws a coin for each user and then one for each record of the users that are in; "record"
            one for each record. "auto" throws coins for the unit of the privacy promise, so that it can be audited;
            without a promise for users where there are users.
        probability: chance that a unit is in.
        train_fraction: with unit "user", the chance that a record of a user who is in is trained on; the others are the
            fresh texts that user inference attacks with.
        known_fraction: share of records set aside as what an attacker knows; never evaluated.
        copies: which exact copies of a text are dropped before coins are thrown: "all", whoever has them, or those
            within each "user"; what several users have then goes by each one's coin, and is never evaluated. "auto" is
            "user" under a promise per user, where no user's training may depend on others, else "all".
        max_records_per_user: train on no more records of a user than this, chosen by a hash: the cheap protection of
            users that needs no noise and promises nothing.
        split_seed: seed of the coins.

    Examples:
        >>> SplitConfig(split_unit="user", max_records_per_user=5).probability
        0.5
    """

    split_unit: str = "auto"
    probability: float = 0.5
    train_fraction: float = 0.5
    known_fraction: float = 0.1
    copies: str = "auto"
    max_records_per_user: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        validate.one_of(("auto", "record", "user"), split_unit=self.split_unit)
        validate.one_of(("auto", "all", "user"), copies=self.copies)
        validate.non_negative(split_seed=self.split_seed)
        validate.at_most(2**63 - 1, split_seed=self.split_seed)
        if self.max_records_per_user is not None:
            validate.positive(max_records_per_user=self.max_records_per_user)

    def copies_within_users(self, promised: str | None = None) -> bool:
        """Are copies only dropped within each user? ``promised`` is as in `throw_coins`."""
        return self.copies == "user" or (self.copies == "auto" and promised == "user")


def throw_coins(records: Sequence[Record], config: SplitConfig, promised: str | None = None) -> Membership:
    """The split that ``config`` asks for.

    Args:
        records: unique ids.
        config: how.
        promised: unit of the promise of differential privacy, ``"record"`` or ``"user"``, which says what "auto" is;
            None where nothing is promised.
    """
    unit = config.split_unit
    if unit == "auto":
        unit = promised or "auto"
    if unit == "auto":
        unit = "user" if all(record.user is not None for record in records) else "record"
    membership = split(
        records,
        unit=unit,
        seed=config.split_seed,
        probability=config.probability,
        train_fraction=config.train_fraction,
        known_fraction=config.known_fraction,
        max_per_user=config.max_records_per_user,
    )
    return set_aside_shared(records, membership) if config.copies_within_users(promised) else membership
