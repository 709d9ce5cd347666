# SPDX-License-Identifier: Apache-2.0
"""The data card: what is in data, in counts. No text, no value, no name of a user."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.core.secret import Secret

TOP_USERS = 5


def users(records: Sequence[Record]) -> dict[str, Any]:
    """How records are spread over users."""
    of_user = Counter(record.user for record in records if record.user is not None)
    shares = sorted(of_user.values(), reverse=True)
    return {
        "users": len(of_user),
        "records_without": sum(record.user is None for record in records),
        "median_records": float(np.median(shares)) if shares else None,
        "largest_shares": [round(n / len(records), 6) for n in shares[:TOP_USERS]],
    }


def sensitive(records: Sequence[Record]) -> dict[str, Any]:
    """Spans, who holds them, and how much of the text they are."""
    marked = [record for record in records if record.spans]
    characters = sum(len(record.plain) for record in records)
    return {
        "spans": sum(len(record.spans) for record in records),
        "records": len(marked),
        "users": len({record.user for record in marked if record.user is not None}),
        "share_of_characters": round(_covered(marked) / characters, 6) if characters else 0.0,
        "spans_in_trained_text": sum(_trained_spans(record) for record in marked),
    }


def kinds(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """By kind: spans, records and users with one, distinct values, and values that are in more than one record."""
    spans: Counter[str] = Counter()
    holders: defaultdict[str, set[str]] = defaultdict(set)
    of_users: defaultdict[str, set[str]] = defaultdict(set)
    values: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        text = record.plain
        for kind in {span.kind for span in record.spans}:
            here = [text[span.start : span.end].casefold() for span in record.spans if span.kind == kind]
            spans[kind] += len(here)
            holders[kind].add(record.id)
            values[kind].update(set(here))
            if record.user is not None:
                of_users[kind].add(record.user)
    return {
        kind: {
            "spans": n,
            "records": len(holders[kind]),
            "users": len(of_users[kind]),
            "values": len(values[kind]),
            "values_in_several_records": sum(count > 1 for count in values[kind].values()),
        }
        for kind, n in spans.most_common()
    }


def coins(membership: Membership) -> dict[str, Any]:
    """Counts of members and of the other roles."""
    rows = {
        "unit": membership.unit,
        "probability": membership.probability,
        "seed": membership.seed,
        "records_in": int(membership.member.sum()),
        "records_out": int((~membership.member).sum()),
        "roles": dict(Counter(map(str, membership.role)).most_common()),
    }
    if membership.has_users:
        inside = {user for user, member in zip(membership.user, membership.user_member, strict=True) if member}
        rows |= {"users_in": len(inside), "users_out": len(set(membership.user) - inside)}
    return rows


def missed(secrets: Sequence[Secret], looked: Sequence[str], *, marks: bool) -> dict[str, Any]:
    """Counts of what a scrubber left, by kind, and the detectors that looked."""
    return {
        "looked": [*looked, *(["marks of the data"] if marks else [])],
        "passages": len(secrets),
        "records": len({secret.record.id for secret in secrets}),
        "users": len({secret.record.user for secret in secrets if secret.record.user is not None}),
        "kinds": dict(Counter(secret.kind for secret in secrets).most_common()),
    }


def _covered(records: Sequence[Record]) -> int:
    """Characters under spans."""
    return sum(len({i for span in record.spans for i in range(span.start, span.end)}) for record in records)


def _trained_spans(record: Record) -> int:
    """Spans that touch what is trained on; the others are only read by the model as context."""
    place, count = 0, 0
    for trained, piece in record.pieces:
        end = place + len(piece)
        count += sum(trained and span.start < end and span.end > place for span in record.spans)
        place = end + 1
    return count
