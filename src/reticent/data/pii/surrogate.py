# SPDX-License-Identifier: Apache-2.0
"""Surrogates: made-up values of the same kind and form, drawn by a keyed hash of the original."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from reticent.core.registry import Registry

T = TypeVar("T")
KEY_BYTES = 32
SHORTEST = 4
"""Letters and digits that an original has at least to be avoided in others' surrogates."""


class Draw:
    """Numbers that follow from a key and a message: the same on every machine, and without the key as good as random.

    Keyed BLAKE2b is a pseudo-random function (RFC 7693): a surrogate tells an original only to who has the key and
    guesses the original.

    Args:
        key: 16 to 64 secret bytes.
        message: what the draws depend on.
        avoid: letters and digits, folded, that no surrogate may hold: the originals of the data set.
    """

    TRIES = 64

    def __init__(self, key: bytes, message: str, avoid: Set[str] = frozenset()) -> None:
        self._key, self._message, self._count = key, message.encode("utf-8", "surrogatepass"), 0
        self.avoid = avoid

    def of(self, message: str) -> Draw:
        """Draws that depend on another message only."""
        return Draw(self._key, message, self.avoid)

    def below(self, n: int) -> int:
        """A whole number in ``[0, n)``, uniform up to 2⁻¹⁰⁰."""
        counted = self._count.to_bytes(8, "big") + self._message
        self._count += 1
        return int.from_bytes(hashlib.blake2b(counted, key=self._key).digest(), "big") % n

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def digits(self, n: int) -> str:
        """``n`` digits."""
        return f"{self.below(10**n):0{n}d}" if n else ""

    def unused(self, original: str, make: Callable[[], str]) -> str:
        """A value that ``make`` returns, drawn again while it holds what to avoid; at last, any but the original.

        Where originals are so many that nothing of that form is unused (four-digit codes of ten thousand people),
        being equal to somebody else's tells nothing.
        """
        letters, spare = letters_and_digits(original), ""
        for _ in range(self.TRIES):
            value = make()
            folded = letters_and_digits(value)
            if letters and letters in folded:
                continue
            if not _holds(folded, self.avoid):
                return value
            spare = spare or value
        return spare


def _holds(folded: str, avoid: Set[str]) -> bool:
    if not avoid:
        return False
    n = len(folded)
    return any(folded[i:j] in avoid for i in range(n) for j in range(i + SHORTEST, n + 1))


Make: TypeAlias = Callable[[str, Draw], str]
"""``make(original, draw)``: a made-up value in the form of the original."""


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """How values of some kinds are made up.

    Args:
        kinds: of the spans that it is for.
        make: draws one.
        canonical: the original without what does not matter (case, blanks): equal ones get equal surrogates.
    """

    kinds: tuple[str, ...]
    make: Make
    canonical: Callable[[str], str]


SURROGATES: Registry[Surrogate] = Registry("surrogate", "reticent.data.pii.surrogates")


def letters_and_digits(value: str) -> str:
    """Lower-cased letters and digits of a value.

    >>> letters_and_digits("GB82 WEST 1234")
    'gb82west1234'
    """
    return "".join(char for char in value.casefold() if char.isalnum())


def surrogate(*kinds: str, canonical: Callable[[str], str] = letters_and_digits) -> Callable[[Make], Make]:
    """Register a function as the maker of surrogates for these kinds (see `Surrogate`)."""

    def register(make: Make) -> Make:
        for kind in kinds:
            SURROGATES.add(kind, Surrogate(kinds=kinds, make=make, canonical=canonical))
        return make

    return register


def digits_in(layout: str, digits: str) -> str:
    """The layout with its digits replaced in order; further ones of the layout are dropped, further given ones too.
    Letters, of which a number has none, become an x: what a person marked as a number may hold anything.

    >>> digits_in("(212) 555-0123", "2015550199")
    '(201) 555-0199'
    """
    given = iter(digits)
    return "".join(next(given, "") if char.isdigit() else "x" if char.isalpha() else char for char in layout)


def same_shape(value: str, draw: Draw) -> str:
    """Digit for digit, small letter for small letter, capital for capital; the rest stays.

    >>> len(same_shape("AB-12", Draw(b"k" * 32, "AB-12")))
    5
    """
    return "".join(_like(char, draw) for char in value)


def _like(char: str, draw: Draw) -> str:
    if char.isdigit():
        return str(draw.below(10))
    if char.isalpha():
        letter = "abcdefghijklmnopqrstuvwxyz"[draw.below(26)]
        return letter.upper() if char.isupper() else letter
    return char
