# SPDX-License-Identifier: Apache-2.0
"""Copies and near-copies among the texts of one user: what a person wrote twice is learned twice, and points at them.

Kandpal et al. ("User Inference Attacks on LLMs", EMNLP 2024, section 5) found this to lower user inference where users
repeat themselves. Texts that different people share (a form letter) are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.dedup.dropped import Deduplication, DroppedRecord, settled
from reticent.data.dedup.exact import drop_exact_duplicates
from reticent.data.dedup.near import drop_near_duplicates
from reticent.data.mapped_records import at_places

OF_THE_USER = " of the user"


def within_user(records: Sequence[Record]) -> Deduplication:
    """Leave out records that repeat, exactly or nearly (see `drop_near_duplicates`), an earlier one of the same user.

    Records without a user are kept.

    Raises:
        BadInput: no record has a user.

    >>> mails = [Record(id="a", text="x", user="ana"), Record(id="b", text="x", user="ana"),
    ...          Record(id="c", text="x", user="bo")]
    >>> within_user(mails).dropped
    (DroppedRecord(id='b', kept='a', why='exact of the user'),)
    """
    if records and all(record.user is None for record in records):
        raise BadInput("the records", "have no users, so none can repeat themselves", "Give --user_field.")
    of_user: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        if record.user is not None:
            of_user[record.user].append(place)
    gone: dict[int, DroppedRecord] = {}
    for places in of_user.values():
        theirs = [records[place] for place in places]
        once = drop_exact_duplicates(theirs)
        drops = {drop.id: drop for drop in (*once.dropped, *drop_near_duplicates(once.records).dropped)}
        gone |= {place: drops[record.id] for place, record in zip(places, theirs, strict=True) if record.id in drops}
    return Deduplication(
        at_places(records, [place for place in range(len(records)) if place not in gone]),
        settled(drop._replace(why=drop.why + OF_THE_USER) for _, drop in sorted(gone.items())),
    )
