# SPDX-License-Identifier: Apache-2.0
"""Copies and near-copies among the texts of one user: what a person wrote twice is learned twice, and points at them.

Kandpal et al. ("User Inference Attacks on LLMs", EMNLP 2024, section 5) found this to lower user inference where users
repeat themselves. Texts that different people share (a form letter) are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.dedup.near import near_copies


class Copy(NamedTuple):
    """A record that was left out: ``kind`` is ``"exact"`` or ``"near"``."""

    id: str
    kind: str


class Dropped(NamedTuple):
    """What is left, in the order given, and what is not."""

    records: list[Record]
    copies: tuple[Copy, ...]


def within_user(records: Sequence[Record]) -> Dropped:
    """Leave out records that repeat, exactly or nearly, an earlier one of the same user.

    Exactly: the same content in the same shape. Nearly: both the whole text and the part that is trained on have a
    near-duplicate (see `near_duplicates`) before them, so neither a long prompt that all records share nor a short
    answer to different questions makes a copy. Records without a user are kept.

    Raises:
        BadInput: no record has a user.

    >>> mails = [Record(id="a", text="x", user="ana"), Record(id="b", text="x", user="ana"),
    ...          Record(id="c", text="x", user="bo")]
    >>> within_user(mails).copies
    (Copy(id='b', kind='exact'),)
    """
    if records and all(record.user is None for record in records):
        raise BadInput("the records", "have no users, so none can repeat themselves", "Give --user_field.")
    of_user: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        if record.user is not None:
            of_user[record.user].append(place)
    kind: dict[int, str] = {}
    for places in of_user.values():
        seen: set[str] = set()
        once = []
        for place in places:
            content = records[place].content_hash
            if content in seen:
                kind[place] = "exact"
            else:
                once.append(place)
            seen.add(content)
        near = _near([records[place] for place in once])
        kind |= {place: "near" for place, copy in zip(once, near, strict=True) if copy}
    return Dropped(
        [record for place, record in enumerate(records) if place not in kind],
        tuple(Copy(records[place].id, kind[place]) for place in sorted(kind)),
    )


def _near(records: Sequence[Record]) -> npt.NDArray[np.bool_]:
    if len(records) < 2:
        return np.zeros(len(records), dtype=np.bool_)
    near = near_copies([record.plain for record in records])
    if near.any() and any(record.text is None for record in records):
        near &= near_copies([record.trained_text for record in records])
    return near
