# SPDX-License-Identifier: Apache-2.0
"""Names of users that may be one person's: they differ in case, blanks or forms of letters alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from reticent.core.progress import console


def spelling(name: str) -> str:
    """A name without what two people would hardly differ in: case, blanks, forms of a letter, signs that nobody sees.

    >>> spelling(" Caf\\u00e9  One") == spelling("cafe\\u0301 one\\u200b")
    True
    """
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).split())


def alike(users: Iterable[str | None]) -> list[tuple[str, ...]]:
    """The different names of each person who may be there as several users, in the order in which they come.

    >>> alike(["ana", "ben", "Ana ", None, "ana"])
    [('ana', 'Ana ')]
    """
    spelled: dict[str, list[str]] = {}
    for user in dict.fromkeys(users):
        if user is not None:
            spelled.setdefault(spelling(user), []).append(user)
    return [tuple(names) for names in spelled.values() if len(names) > 1]


def tell_alike(users: Iterable[str | None]) -> None:
    """Say on the console that there are such: one person who is there as two users has no promise as one."""
    groups = alike(users)
    if groups:
        console.print(
            f"{sum(map(len, groups))} users differ from another in their spelling alone, such as "
            f"{' and '.join(repr(name[:40]) for name in groups[0][:2])}. Who is there as two has no promise as one: "
            "put names into one spelling where they are one person's.",
            style="yellow",
            highlight=False,
            markup=False,
        )
