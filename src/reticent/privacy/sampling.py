# SPDX-License-Identifier: Apache-2.0
"""Which units are in which step: Poisson sampling, as a pure function of a secret key and the step.

A draw depends on nothing but (key, step, unit), so a resumed training sees the batches that it would have seen. Random
numbers are read from SHAKE-256 of the key: who does not know it cannot predict who was in a batch, which is what
privacy amplification by sampling rests on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput

KEY_BYTES = 32


class Piece(NamedTuple):
    """Tokens ``start:stop`` of record number ``record``."""

    record: int
    start: int
    stop: int


Row = tuple[Piece, ...]
"""One sequence for the model: its pieces, one behind the other."""

Unit = tuple[Row, ...]
"""What is clipped as one; the gradients of its rows are averaged."""


@dataclass(frozen=True, kw_only=True)
class Population:
    """Who is in the training data, in the order of the records.

    Args:
        users: whose record it is; None where nobody is known.
        lengths: tokens of each record, after cutting at the model's context.
        scores: perplexity of each record under the base model; needed by the rules that select by it.
        max_tokens: the context that records were cut to, a number that does not depend on the data; needed by
            random_chunk.

    Raises:
        BadInput: columns of different lengths, or a record without tokens.
    """

    users: tuple[str | None, ...]
    lengths: tuple[int, ...]
    scores: tuple[float, ...] | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        validate.same_length(users=self.users, lengths=self.lengths)
        if self.scores is not None:
            validate.same_length(users=self.users, scores=self.scores)
            if not all(map(math.isfinite, self.scores)):
                raise BadInput("scores", "must be finite", "Score every record under the base model.")
        if self.max_tokens is not None:
            validate.positive(max_tokens=self.max_tokens)
        if min(self.lengths, default=1) < 1:
            empty = sum(length < 1 for length in self.lengths)
            raise BadInput(f"{empty} records", "have no tokens", "Leave empty records out.")

    def __len__(self) -> int:
        return len(self.users)

    def records_of_users(self) -> dict[str, tuple[int, ...]]:
        """Numbers of the records of each user, users by first appearance.

        Raises:
            BadInput: records without a user.
        """
        found: dict[str, list[int]] = {}
        for record, user in enumerate(self.users):
            if user is not None:
                found.setdefault(user, []).append(record)
        unknown = len(self.users) - sum(map(len, found.values()))
        if unknown:
            raise BadInput(
                f"{unknown} of {len(self.users)} records",
                "have no user, so no user can be hidden",
                "Name the field that holds the user (--user_field), or give --unit record.",
            )
        return {user: tuple(records) for user, records in found.items()}


@dataclass(frozen=True, kw_only=True)
class PoissonSampler:
    """Each of ``units`` is in each step by a coin of its own that shows heads with probability ``rate``.

    Args:
        units: how many there are to sample: users with user_sampling "user", else records.
        rate: of the coins; 1 takes all in every step.
        steps: how many batches there are.
        owned: how many of the sampled units one protected unit can be behind: 1, or the cap on the records of a user
            where records are sampled and users protected.
        rows_per_unit: the most rows that a unit has.
        draw: (unit, step) → its rows in that step; must not look at other units.
        key: 32 secret bytes.
    """

    units: int
    rate: float
    steps: int
    owned: int
    rows_per_unit: int
    draw: Callable[[int, int], Unit] = field(repr=False)
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        validate.positive(units=self.units, steps=self.steps, owned=self.owned, rows_per_unit=self.rows_per_unit)
        validate.in_range(0, 1, rate=self.rate)
        check_key(self.key)

    @property
    def expected_batch(self) -> float:
        """Expected number of units in a step."""
        return self.rate * self.units

    def sampled(self, step: int) -> npt.NDArray[np.int64]:
        """Numbers of the units in that step, rising; may be none."""
        if not 0 <= step < self.steps:
            raise BadInput(f"step {step}", f"must be in 0 … {self.steps - 1}", "Account for all steps in the plan.")
        if self.rate == 1:
            return np.arange(self.units)
        # Rounded down, so that no unit is drawn more often than is accounted for.
        return np.flatnonzero(words(self.key, "sample", step, count=self.units) < np.uint64(int(self.rate * 2**64)))

    def batch(self, step: int) -> list[Unit]:
        """The units of that step; an empty list where no coin showed heads.

        Raises:
            BadInput: a step that is not in the plan, so not accounted for.
        """
        return [self.draw(unit, step) for unit in self.sampled(step).tolist()]


def words(key: bytes, purpose: str, *numbers: int | str, count: int) -> npt.NDArray[np.uint64]:
    """``count`` uniform 64-bit numbers, ``[count]``: SHAKE-256 of the key, what they are for and for which thing."""
    message = "\0".join([purpose, *map(str, numbers)]).encode("utf-8", "surrogatepass")
    digest = hashlib.shake_256(key + message).digest(8 * count)
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def check_key(key: bytes) -> None:
    """Refuse keys of another length than ``KEY_BYTES``: the length keeps keys and purposes apart in the hash."""
    if len(key) != KEY_BYTES:
        raise BadInput(f"a key of {len(key)} bytes", f"must have {KEY_BYTES}", "Take secrets.token_bytes(32).")
