# SPDX-License-Identifier: Apache-2.0
"""The rules against copies by name, one after another, and how many records each of them finds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.dedup.dropped import Deduplication, DroppedRecord, settled
from reticent.data.dedup.exact import drop_exact_duplicates
from reticent.data.dedup.minhash import drop_near_duplicates_by_minhash
from reticent.data.dedup.near import drop_near_duplicates
from reticent.data.dedup.substring import drop_repeated_passages
from reticent.data.dedup.within_user import within_user
from reticent.data.mapped_records import held

MAX_EXACT = 100_000
"""More records than this, and near-duplicates are proposed by MinHash. Up to here the exact rule is the faster one, of
form letters and quoted mails too; both take 5 to 7 KB a record."""


def near(records: Sequence[Record]) -> Deduplication:
    """Near-duplicates, by all pairs where there are few records and by MinHash where there are many."""
    return (drop_near_duplicates if len(records) <= MAX_EXACT else drop_near_duplicates_by_minhash)(records)


RULES: Mapping[str, Callable[[Sequence[Record]], Deduplication]] = {
    "exact": drop_exact_duplicates,
    "user": within_user,
    "near": near,
    "substring": drop_repeated_passages,
}
"""In the order in which they are applied: what a rule finds is not compared by the next."""


class DedupResult(NamedTuple):
    """The records left, the records dropped, and how many each rule finds among those that the rules before it leave,
    whether or not they were applied; None for a rule about users where there are none."""

    records: Sequence[Record]
    dropped: tuple[DroppedRecord, ...]
    counts: dict[str, int | None]


def named(rules: str | None) -> tuple[str, ...]:
    """Rules from their names, separated by commas, in the order of ``RULES``; none for None.

    Raises:
        BadInput: an unknown name, or none in it.
    """
    if rules is None:
        return ()
    names = [name.strip() for name in rules.split(",") if name.strip()]
    unknown = [name for name in names if name not in RULES]
    if unknown or not names:
        raise BadInput(f"dedup={rules!r}", "names no rule against copies", f"Choose some of: {', '.join(RULES)}.")
    return tuple(name for name in RULES if name in names)


def deduplicate(records: Sequence[Record], rules: Collection[str]) -> DedupResult:
    """Apply ``rules``, and count what all of them find.

    Raises:
        BadInput: the rule ``"user"`` is asked for and no record has a user.
    """
    has_users = any(record.user is not None for record in records)
    counts: dict[str, int | None] = {}
    counted: Sequence[Record] = held(records)
    left = counted
    dropped: list[DroppedRecord] = []
    for name, rule in RULES.items():
        if name == "user" and not has_users and name not in rules:
            counts[name] = None
            continue
        applied_rule = rule(counted)
        counts[name] = len(applied_rule.dropped)
        both = counted is left
        if name in rules:
            applied = applied_rule if both else rule(left)
            left = applied.records
            dropped += applied.dropped
        if applied_rule.dropped:
            counted = left if both and name in rules else applied_rule.records
        elif both:
            counted = left
    return DedupResult(left, settled(dropped), counts)
