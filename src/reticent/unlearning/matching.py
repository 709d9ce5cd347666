# SPDX-License-Identifier: Apache-2.0
"""Records that hold the text, or a value, that somebody wants to be forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import regex

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.words import is_unspaced, units
from reticent.unlearning.normal_text import normal_text

LONG = 14
"""Words from which a text alone names a record that also has a prompt: an answer of three words is many people's."""
A_RECORD, ALTOGETHER = 2.0, 120.0
"""Seconds that a regular expression may take. One that backtracks without end takes longer than the universe has."""


def with_text(asked: Sequence[str], records: Sequence[Record]) -> list[list[int]]:
    """For each text the places of the records that have the same words and signs (see `normal_text`).

    A text is the record as a whole, or, where that has a prompt or a chat before it, all that is trained on.

    >>> letters = [Record(id="a", text="Dear shop,\\nit is late."), Record(id="b", text="Dear shop, it is Late.")]
    >>> with_text(["Dear shop, it  is late."], letters)
    [[0]]
    """
    places: dict[str, dict[int, None]] = {}
    for place, record in enumerate(records):
        places.setdefault(normal_text(record.plain), {})[place] = None
        if record.text is None and len(units(record.trained_text)) >= LONG:
            places.setdefault(normal_text(record.trained_text), {})[place] = None
    return [list(places.get(normal_text(text), ())) for text in asked]


def with_value(value: str, records: Sequence[Record]) -> list[int]:
    """Places of the records that hold a value as whole words, whatever its case and white space.

    In scripts without blanks between words (see `data.words`) it may stand anywhere.

    >>> with_value("ann", [Record(id="a", text="Annual"), Record(id="b", text="To ANN's house")])
    [1]
    """
    wanted = normal_text(value).casefold()
    if not wanted:
        raise _empty(value)
    return [place for place, record in enumerate(records) if _holds(normal_text(record.plain).casefold(), wanted)]


def with_expression(
    expression: str,
    records: Sequence[Record],
    *,
    a_record: float = A_RECORD,
    altogether: float = ALTOGETHER,
    clock: Callable[[], float] = time.monotonic,
) -> list[int]:
    """Places of the records in which a regular expression (of the package `regex`) matches at least one character.

    Args:
        expression: in its usual sense: case counts, ``.`` is no line end.
        records: searched as they are, prompts included.
        a_record, altogether: seconds that the search may take.
        clock: seconds, rising.

    Raises:
        BadInput: it is no expression, matches the empty text, or takes too long.

    >>> with_expression(r"BW-[0-9]+", [Record(id="a", text="order BW-12"), Record(id="b", text="order BW-")])
    [0]
    """
    compiled = _compiled(expression)
    start, places = clock(), []
    for place, record in enumerate(records):
        left = altogether - (clock() - start)
        try:
            if left <= 0:
                raise TimeoutError
            match = compiled.search(record.plain, timeout=min(a_record, left))
            if match and not match.group():
                raise _empty(expression)
            if match:
                places.append(place)
        except TimeoutError:
            took = "two minutes on all records" if left < a_record else f"{a_record:g} seconds on one record"
            raise BadInput(
                f"--forget_pattern={expression[:80]!r}",
                f"takes more than {took}",
                "Nested repetitions such as (a+)+ try every way to cut a text; write it with one, or as (?>a+)+.",
            ) from None
    return places


def _compiled(expression: str) -> regex.Pattern[str]:
    try:
        compiled = regex.compile(expression)
        matches_nothing = compiled.search("", timeout=A_RECORD) is not None
    except (regex.error, RecursionError, OverflowError, MemoryError, TimeoutError, ValueError) as error:
        reason = "too deeply nested" if isinstance(error, RecursionError) else error
        raise BadInput(
            f"--forget_pattern={expression[:80]!r}",
            f"is no regular expression ({reason})",
            "Mend it; or leave --forget_regex out, to look for the text as it stands.",
        ) from error
    if matches_nothing:
        raise _empty(expression)
    return compiled


def _empty(pattern: str) -> BadInput:
    return BadInput(
        f"--forget_pattern={pattern[:80]!r}",
        "matches the empty text, so every record",
        "Write it so that it needs at least one character of what is to be forgotten.",
    )


def _holds(text: str, wanted: str) -> bool:
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if not (_runs_on(text[start - 1 : start], wanted[0]) or _runs_on(text[end : end + 1], wanted[-1])):
            return True
        start = text.find(wanted, start + 1)
    return False


def _runs_on(outside: str, edge: str) -> bool:
    """Are two neighbouring characters parts of one word?"""
    return outside.isalnum() and edge.isalnum() and not (is_unspaced(outside) or is_unspaced(edge))
