# SPDX-License-Identifier: Apache-2.0
"""Secure plan: the numbers that all who take part in a secure round agree on before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reticent.core import validate
from reticent.core.errors import BadInput

SESSION_BYTES = 16
FEWEST = 3
"""With two clients each knows the other's vector from the sum."""


@dataclass(frozen=True, kw_only=True)
class SecurePlan:
    """A session of secure aggregation.

    Args:
        session: 16 random bytes, other ones in every round: whatever is sent is bound to them.
        dimension: numbers in a vector.
        clients: the most that may take part.
        threshold: the fewest whose sum may be opened.
        degree: neighbours of each client, even; None for all others.
        needed: neighbours whose pieces open a secret; None for the fewest that are safe, and ``threshold - 1`` in the
            complete graph where that is more.
        bits: of the modulus, at most 32.

    Raises:
        BadInput: out of range; or so few pieces needed that a server could get both of a client's secrets by telling
            half of its neighbours that it is there and the other half that it is not.

    Examples:
        >>> plan = SecurePlan(session=bytes(16), dimension=10, clients=5, threshold=4)
        >>> plan.neighbours_of(5), plan.pieces_of(4)
        (4, 3)
    """

    session: bytes
    dimension: int
    clients: int
    threshold: int
    degree: int | None = None
    needed: int | None = None
    bits: int = 32

    def __post_init__(self) -> None:
        validate.positive(dimension=self.dimension)
        validate.in_range(FEWEST - 1, 1 << 20, clients=self.clients)
        validate.in_range(7, 32, bits=self.bits)
        if len(self.session) != SESSION_BYTES:
            raise BadInput(
                f"a session of {len(self.session)} bytes", f"must have {SESSION_BYTES}", "Take secrets.token_bytes(16)."
            )
        if not FEWEST - 1 <= self.threshold <= self.clients:
            raise BadInput(
                f"threshold={self.threshold}",
                f"must be in {FEWEST - 1} … {self.clients}, the number of clients",
                "A common choice is two thirds of them.",
            )
        if self.degree is not None and (self.degree < 2 or self.degree % 2):
            raise BadInput(f"degree={self.degree}", "must be even and at least 2", "Give an even number.")
        needed = self.pieces_of(self.neighbours_of(self.clients))
        if self.degree is None and self.threshold <= needed:
            raise BadInput(
                f"threshold={self.threshold} of {self.clients} clients",
                f"could not be opened: {needed} neighbours of each client have to be there",
                f"Give {needed + 1} or more.",
            )

    def neighbours_of(self, clients: int) -> int:
        """Neighbours of each client where ``clients`` take part."""
        return clients - 1 if self.degree is None else min(self.degree, clients - 1)

    def pieces_of(self, degree: int) -> int:
        """Pieces that open a secret where each client has ``degree`` neighbours: more than half of them, always."""
        least = degree // 2 + 1
        usual = max(least, self.threshold - 1) if self.degree is None else max(least, math.ceil(degree * 0.6))
        needed = min(usual, degree) if self.needed is None else self.needed
        if not least <= needed <= degree:
            raise BadInput(
                f"needed={needed} pieces of {degree}",
                "must be more than half of them, so that no server gets two secrets of a client from its two halves",
                f"Give {least} … {degree}.",
            )
        return needed

    def spare_of(self, degree: int) -> int:
        """Pieces of a secret that may be missing, and that a client therefore may show in the open; fewer than half."""
        return degree - self.pieces_of(degree)

    @property
    def mask(self) -> int:
        """The modulus less one."""
        return (1 << self.bits) - 1
