# SPDX-License-Identifier: Apache-2.0
"""Poisson sampling of the units of each step, as a pure function of a secret key and the step.

A draw depends on nothing but (key, step, number and rate of units), so a resumed training sees the batches that it
would have seen. Random numbers are read from SHAKE-256 of the key: who does not know it cannot predict who was in a
batch, which is what privacy amplification by sampling rests on.

**Definition.** The words of step t are ``words(key, purpose, t, j, count=CHUNK)`` for j = 0, 1, 2, …, one behind the
other; each is a uniform number in [0, 2^64). A word w is read as the standard exponential E = -ln(w / 2^64): with
``tail = (min(w, 2^64 - 1 - w) + ½) / 2^64``, E is ``-log(tail)`` where w < 2^63 and ``-log1p(-tail)`` elsewhere, which
is precise for long and for short E, and never infinite. A unit is left out ``floor(E / -log1p(-rate))`` times in a row
before the next one is in:

    place = -1
    for each word:
        place += 1 + floor(E(word) / -log1p(-rate))
        if place >= units: stop
        place is in

The number of failures before a success of coins with chance ``rate`` is geometric, and floor(E / λ) with
λ = -ln(1 - rate) is exactly that: P(floor(E / λ) ≥ g) = e^(-gλ) = (1 - rate)^g. So the units are those of independent
coins, and the work is that of the units drawn, not of all. With rate 1 all are in and no word is read.

**Rounding.** Words are multiples of 2^-64, and quotients may be off by 2^-52 of themselves. So, given who was drawn
before, a unit at the end of a gap g is in with a chance of rate·(1 ± η), η = g·2^-51 + 2^-64 / (rate·P(gap ≥ g)). For
10^6 units and a batch of 1 that is 10^-9 of the rate where g is as long as on average, and 10^-4 where it is so long
that it comes once in 10^9 draws; larger batches have shorter gaps. Noise is calibrated to three digits, rounded up. Two
mathematical libraries may differ in the last bit of a logarithm: they draw another batch once in some 2^51 draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.core import validate
from reticent.core.errors import BadInput

KEY_BYTES = 32
CHUNK = 512
"""Words of a step that are read at a time."""
_LONGEST_PERIOD, _LEAST_DIFFERENT = 16, 12


class TokenRange(NamedTuple):
    """Tokens ``start:stop`` of record number ``record``."""

    record: int
    start: int
    stop: int


Row = tuple[TokenRange, ...]
"""One sequence for the model: its pieces, one behind the other."""

Unit = tuple[Row, ...]
"""Rows that are clipped together; their gradients are averaged."""


@dataclass(frozen=True, kw_only=True)
class Population:
    """The users and lengths of the training data, in the order of the records.

    Args:
        users: whose record it is; None where nobody is known.
        lengths: tokens of each record, after cutting at the model's context.
        scores: perplexity of each record under the base model; needed by the rules that select by it.
        max_tokens: the context that records were cut to, a number that does not depend on the data; needed by
            random_chunk.
        contents: digest of all token ids and labels (``train.private.population.RowCounts``), so that a plan is
            for these very texts; None where only lengths are known.

    Raises:
        BadInput: columns of different lengths, or a record without tokens.

    Examples:
        >>> people = Population(users=("ana", "ana", "ben"), lengths=(12, 30, 8))
        >>> len(people), people.lengths
        (3, (12, 30, 8))
    """

    users: tuple[str | None, ...]
    lengths: tuple[int, ...]
    scores: tuple[float, ...] | None = None
    max_tokens: int | None = None
    contents: bytes | None = None

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

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of all that is known of the records, in their order.

        Each part has its name and length before it, so that no two populations are hashed as the same bytes.
        """
        users = [None if user is None else user.encode("utf-8", "surrogatepass") for user in self.users]
        columns: dict[str, bytes | None] = {
            "lengths": np.asarray(self.lengths, dtype="<i8").tobytes(),
            "users": np.asarray([-1 if user is None else len(user) for user in users], dtype="<i8").tobytes(),
            "names": b"".join(user for user in users if user is not None),
            "scores": None if self.scores is None else np.asarray(self.scores, dtype="<f8").tobytes(),
            "max_tokens": None if self.max_tokens is None else str(self.max_tokens).encode(),
            "contents": self.contents,
        }
        digest = hashlib.sha256()
        for name, column in columns.items():
            digest.update(f"{name} {-1 if column is None else len(column)}\n".encode())
            digest.update(column or b"")
        return digest.hexdigest()

    def records_of_users(self) -> dict[str, tuple[int, ...]]:
        """Numbers of the records of each user, users by first appearance.

        Raises:
            BadInput: records without a user.
        """
        by_user: dict[str, list[int]] = {}
        for record, user in enumerate(self.users):
            if user is not None:
                by_user.setdefault(user, []).append(record)
        unknown = len(self.users) - sum(map(len, by_user.values()))
        if unknown:
            raise BadInput(
                f"{unknown} of {len(self.users)} records",
                "have no user, so no user can be hidden",
                "Name the field that holds the user (--user_field), or give --unit record.",
            )
        return {user: tuple(records) for user, records in by_user.items()}


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
        return by_coins(self.key, "sample", step, units=self.units, rate=self.rate)

    def batch(self, step: int) -> list[Unit]:
        """The units of that step; an empty list where no coin showed heads.

        Raises:
            BadInput: a step that is not in the plan, so not accounted for.
        """
        return [self.draw(unit, step) for unit in self.sampled(step).tolist()]


def by_coins(key: bytes, purpose: str, step: int, *, units: int, rate: float) -> npt.NDArray[np.int64]:
    """Numbers of the units whose own coin shows heads in that step, rising; may be none. See the module.

    Args:
        key: 32 secret bytes.
        purpose: what is drawn. Draws for another purpose have nothing to do with these.
        step: whose draw it is.
        units: how many coins are thrown.
        rate: chance of heads; with 1 all are in.

    >>> by_coins(bytes(range(32)), "sample", 0, units=3, rate=1.0)
    array([0, 1, 2])
    """
    if rate == 1:
        return np.arange(units)
    drawn, last, chunk = [], -1, 0
    while last < units:
        word = words(key, purpose, step, chunk, count=CHUNK)
        # As floats first: at tiny rates a gap can be larger than any integer of 64 bits.
        gaps = np.minimum(exponentials(word) / -math.log1p(-rate), units).astype(np.int64)
        places = last + np.cumsum(gaps + 1)
        drawn.append(places[places < units])
        last, chunk = int(places[-1]), chunk + 1
    return np.concatenate(drawn)


def words(key: bytes, purpose: str, *numbers: int | str, count: int) -> npt.NDArray[np.uint64]:
    """``count`` uniform 64-bit numbers, ``[count]``: SHAKE-256 of the key, what they are for and for which thing."""
    message = "\0".join([purpose, *map(str, numbers)]).encode("utf-8", "surrogatepass")
    digest = hashlib.shake_256(key + message).digest(8 * count)
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def exponentials(word: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """``[n]`` uniform 64-bit numbers as standard exponentials, between 2^-65 and 46; see the module."""
    tail = (np.minimum(word, ~word).astype(np.float64) + 0.5) * 2.0**-64
    values: npt.NDArray[np.float64] = np.where(word >> np.uint64(63), -np.log1p(-tail), -np.log(tail))
    return values


def check_key(key: bytes) -> None:
    """Refuse keys that are no secret, or of another length than ``KEY_BYTES``: the length keeps keys and purposes apart
    in the hash.

    Raises:
        BadInput: another length; a pattern of at most 16 bytes again and again; fewer than 12 different bytes. Random
            keys are none of these, but for one in 10^24.
    """
    if len(key) != KEY_BYTES:
        raise BadInput(f"a key of {len(key)} bytes", f"must have {KEY_BYTES}", "Take secrets.token_bytes(32).")
    repeats = any(key[period:] == key[:-period] for period in range(1, _LONGEST_PERIOD + 1))
    if repeats or len(set(key)) < _LEAST_DIFFERENT:
        raise BadInput(
            "the key",
            "is a pattern that can be guessed, and whoever has it can subtract the noise",
            "Take secrets.token_bytes(32), or open_key(folder).",
        )
