# SPDX-License-Identifier: Apache-2.0
"""Whose data a training used: its users and its texts, as keys that are compared and never shown.

All who had a coin count, whether it came up or not: a coin is a secret, and a ledger that left out who was out would
tell it. Who shares a text or a user's name shares a unit. A text that was changed from one run to the next, and has no
user, is taken for another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from reticent.core.errors import BadInput
from reticent.core.membership import read_membership
from reticent.core.record import read_records
from reticent.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """Those in one data set.

    Args:
        users: how many records each has.
        texts: SHA-256 of the content of each record.
        all_have_users: whether no record is without.
    """

    users: Mapping[str, int] = field(repr=False)
    texts: frozenset[str] = field(repr=False)
    all_have_users: bool

    @property
    def keys(self) -> frozenset[tuple[str, str]]:
        """All units of either kind."""
        return frozenset({*(("user", user) for user in self.users), *(("record", text) for text in self.texts)})

    def of(self, unit: str) -> frozenset[str]:
        """The units of one kind."""
        return frozenset(self.users) if unit == "user" else self.texts


def read_people(folder: Path) -> People:
    """Those in the records of a run, or of a comparison.

    Raises:
        BadInput: they are missing or broken.
    """
    try:
        records = read_records(RunFolder(root=folder).records)
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = "is missing" if missing else f"cannot be read ({type(error).__name__})"
        raise BadInput("records.parquet", why, "Keep it with the run: it tells whose data was used.") from error
    return People(
        users=Counter(record.user for record in records if record.user is not None),
        texts=frozenset(record.content_hash for record in records),
        all_have_users=all(record.user is not None for record in records),
    )


def most_of_a_user(folder: Path) -> int | None:
    """Most records of one user that a run trained on or would have, by its coins; None where they do not tell."""
    try:
        return read_membership(RunFolder(root=folder).membership).most_of_a_user
    except (OSError, BadInput, pa.ArrowException, ValueError, TypeError, KeyError):
        return None
