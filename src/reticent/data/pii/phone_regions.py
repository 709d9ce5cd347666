# SPDX-License-Identifier: Apache-2.0
"""Telephone numbers of several regions in one text, as the matcher of the package phonenumbers finds them in each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from phonenumbers import PhoneNumberMatcher, phonenumbermatcher, phonenumberutil

STEPS = (
    (phonenumbermatcher, "_PATTERN"),
    (phonenumberutil, "_SECOND_NUMBER_START_PATTERN"),
    (PhoneNumberMatcher, "_extract_match"),
)
"""The steps of the matcher that are taken here one by one. A release that has others is used as a whole."""
BEHIND = 3
"""Characters behind a candidate that the matcher looks at: a colon and two digits are minutes."""


def phone_places(text: str, regions: Sequence[str], leniency: int) -> set[tuple[int, int]]:
    """Where a matcher of any of the regions finds a number, with the borders that it gives.

    What may be a number is looked for once, whatever the region. A region goes on behind the number that it finds,
    which may be a part of what may be one, and so comes to others. What each makes of the same text is remembered.

    Args:
        text: any text.
        regions: ISO codes: numbers without a country code are read as theirs.
        leniency: of ``phonenumbers.Leniency``.
    """
    if not all(hasattr(owner, name) for owner, name in STEPS):
        return plain_places(text, regions, leniency)
    numbers = set()
    waiting = {0: tuple(regions)}
    while waiting:
        begin = min(waiting)
        here = waiting.pop(begin)
        match = phonenumbermatcher._PATTERN.search(text, begin)
        if match is None:
            continue
        start, value = match.start(), match[0]
        further = phonenumberutil._SECOND_NUMBER_START_PATTERN.search(value)
        value = value[: further.start()] if further else value
        end = start + len(value)
        places = _within(text[max(0, start - 1) : start], value, text[end : end + BEHIND], here, leniency)
        for region, place in zip(here, places, strict=True):
            if place is not None:
                numbers.add((start + place[0], start + place[1]))
            after = end if place is None else start + place[1]
            waiting[after] = (*waiting.get(after, ()), region)
    return numbers


def plain_places(text: str, regions: Iterable[str], leniency: int) -> set[tuple[int, int]]:
    """The same by the matcher of each region, one after the other."""
    return {
        (match.start, match.end) for region in regions for match in PhoneNumberMatcher(text, region, leniency=leniency)
    }


@lru_cache(maxsize=16384)
def _within(
    before: str, value: str, behind: str, regions: tuple[str, ...], leniency: int
) -> tuple[tuple[int, int] | None, ...]:
    """For each region the number that it finds in ``value``, between a character before it and those behind it."""
    places = []
    for region in regions:
        matcher = PhoneNumberMatcher(before + value + behind, region, leniency=leniency)
        match = matcher._extract_match(value, len(before))
        places.append(None if match is None else (match.start - len(before), match.end - len(before)))
    return tuple(places)
