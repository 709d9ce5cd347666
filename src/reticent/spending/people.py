# SPDX-License-Identifier: Apache-2.0
"""Whose data a training used: its users and its texts, as keys that are compared and never shown.

All who had a coin count, whether it came up or not: a coin is a secret, and a ledger that left out who was out would
tell it. Who shares a text or a user's name shares a unit, so a person under two names is known by their texts. A text
that was changed from one run to the next, and has no user, is taken for another.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from reticent.core.errors import BadInput
from reticent.core.membership import read_membership
from reticent.core.record import read_records
from reticent.core.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """Those in one data set.

    Args:
        rows: of each record the SHA-256 of its content, and its user.
    """

    rows: tuple[tuple[str, str | None], ...] = field(repr=False)

    @property
    def keys(self) -> frozenset[tuple[str, str]]:
        """All units of either kind."""
        texts = {("record", text) for text, _ in self.rows}
        return frozenset(texts | {("user", user) for _, user in self.rows if user is not None})

    @property
    def all_have_users(self) -> bool:
        """True if every record has a user."""
        return all(user is not None for _, user in self.rows)

    @property
    def most_of_a_user(self) -> int:
        """Most records of one user; 0 without users."""
        return max(Counter(user for _, user in self.rows if user is not None).values(), default=0)


def read_people(folder: Path) -> People:
    """Those in the records of a run, or of a comparison.

    Raises:
        BadInput: they are missing or broken.
    """
    try:
        records = read_records(RunFolder(root=folder).records)
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "is missing" if missing else f"cannot be read ({type(error).__name__})"
        raise BadInput("records.parquet", reason, "Keep it with the run: it tells whose data was used.") from error
    return People(rows=tuple((record.content_hash, record.user) for record in records))


def most_of_a_user(folder: Path) -> int | None:
    """Most records of one user that a run trained on or would have, by its coins; None where they do not tell."""
    try:
        return read_membership(RunFolder(root=folder).membership).most_of_a_user
    except (OSError, BadInput, pa.ArrowException, ValueError, TypeError, KeyError):
        return None
