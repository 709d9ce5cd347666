# SPDX-License-Identifier: Apache-2.0
"""Chooses the records of a user that count: the rules of user-level privacy (Chua et al., COLM 2024, arXiv:2406.14322).

A rule looks at the records of one user and at nothing else, so that one user more or less changes nothing for others.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import numpy as np

from reticent.core.errors import BadInput
from reticent.privacy.sampling import Population, Row, TokenRange, Unit, words

Records = tuple[int, ...]
"""Numbers of the records of one user."""


def check_rule(population: Population, rule: str) -> None:
    """Refuse a rule that ``population`` does not hold enough for.

    Raises:
        BadInput: records without perplexities, or a population that does not tell its context.
    """
    if rule in ("low_perplexity", "high_perplexity") and population.scores is None:
        raise BadInput(
            f"record_selection={rule!r}",
            "needs the perplexity of each record under the base model",
            "Score the records first, or choose longest, which needs no scores.",
        )
    if rule == "random_chunk" and population.max_tokens is None:
        raise BadInput(
            "record_selection='random_chunk'",
            "needs chunks whose length does not depend on the data, and the population does not tell its context",
            "Give max_tokens.",
        )


def whole(population: Population, record: int) -> Row:
    """All tokens of a record as one row."""
    return (TokenRange(record, 0, population.lengths[record]),)


def keep(population: Population, records: Records, *, rule: str, cap: int, key: bytes) -> Records:
    """At most ``cap`` of a user's ``records``, the same at every call, in rising order.

    Args:
        rule: longest, shortest, low_perplexity, high_perplexity (ties: the earlier record), or random (by ``key``).

    Raises:
        BadInput: a rule by perplexity, but the records were not scored.
    """
    if rule == "random":
        user = population.users[records[0]]
        rank = words(key, "keep", user or "", count=len(records)).tolist()
    elif rule in ("longest", "shortest"):
        sign = -1 if rule == "longest" else 1
        rank = [sign * population.lengths[record] for record in records]
    else:
        check_rule(population, rule)
        assert population.scores is not None
        sign = -1 if rule == "high_perplexity" else 1
        rank = [sign * population.scores[record] for record in records]
    order = sorted(range(len(records)), key=lambda position: (rank[position], position))
    return tuple(sorted(records[position] for position in order[:cap]))


def draw_records(population: Population, records: Records, *, count: int, key: bytes, at: tuple[int, int]) -> Unit:
    """``count`` of a user's ``records`` at random, none twice, afresh for each (unit, step) ``at``; all if there are
    no more than ``count``."""
    if len(records) > count:
        rank = words(key, "draw", *at, count=len(records))
        records = tuple(records[position] for position in np.sort(np.argsort(rank, kind="stable")[:count]))
    return tuple(whole(population, record) for record in records)


def draw_chunks(population: Population, records: Records, *, count: int, key: bytes, at: tuple[int, int]) -> Unit:
    """At most ``count`` chunks of ``population.max_tokens`` tokens out of a user's texts, one behind the other.

    Each chunk starts at a token chosen uniformly and goes on from the last text to the first, so that every token is
    drawn equally often over time. A user with less text than a chunk gives all of it; one with less text than ``count``
    chunks gives as many as are needed to hold it.

    Raises:
        BadInput: the population does not tell its context.
    """
    check_rule(population, "random_chunk")
    assert population.max_tokens is not None
    ends = list(accumulate(population.lengths[record] for record in records))
    total, chunk = ends[-1], population.max_tokens
    if total <= chunk:
        return (tuple(piece for record in records for piece in whole(population, record)),)
    starts = words(key, "chunk", *at, count=min(count, -(-total // chunk))) % np.uint64(total)
    return tuple(_ring(population, records, ends, start, chunk) for start in starts.tolist())


def _ring(population: Population, records: Records, ends: list[int], start: int, length: int) -> Row:
    """``length`` tokens of the records' texts laid in a ring, from token ``start``."""
    position = bisect_right(ends, start)
    offset = start - (ends[position] - population.lengths[records[position]])
    pieces = []
    while length:
        record = records[position % len(records)]
        stop = min(population.lengths[record], offset + length)
        pieces.append(TokenRange(record, offset, stop))
        length -= stop - offset
        position, offset = position + 1, 0
    return tuple(pieces)
