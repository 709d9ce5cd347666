# SPDX-License-Identifier: Apache-2.0
"""Whose records a tokenised data set holds, and which: read in one pass, of which no token is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reticent.core.errors import BadInput
from reticent.privacy.rows import RowDigests, digest_of
from reticent.privacy.sampling import Population
from reticent.train.private.micro_batches import tokens_of


@dataclass(frozen=True, kw_only=True, eq=False)
class RowCounts:
    """Users, lengths and digest of a tokenised data set, from one pass.

    Args:
        users: of its column ``user``; None where it has none.
        rows: length and digest of each record.
        contents: 32 bytes, BLAKE2b of all token ids and labels in their order.
    """

    users: tuple[str | None, ...]
    rows: RowDigests
    contents: bytes

    def population(self, *, max_tokens: int | None = None) -> Population:
        """The population of the data set; ``max_tokens`` as in ``population_of``."""
        lengths = tuple(self.rows.length.tolist())
        return Population(users=self.users, lengths=lengths, max_tokens=max_tokens, contents=self.contents)


def read_of(dataset: Iterable[Any]) -> RowCounts:
    """Read a tokenised data set once. A stream, which is refused, is not read: it is as if it were empty."""
    contents = hashlib.blake2b(digest_size=32)
    users, lengths, digests = [], [], []
    for item in dataset if hasattr(dataset, "__len__") else ():
        ids, labels = tokens_of(item)
        digest = digest_of(ids)
        # 16 bytes, the length, and as many labels: no two data sets are hashed as the same bytes.
        contents.update(digest + len(ids).to_bytes(8, "little") + labels.tobytes())
        users.append(_user(item))
        lengths.append(len(ids))
        digests.append(digest)
    rows = RowDigests.from_digests(lengths, digests)
    return RowCounts(users=tuple(users), rows=rows, contents=contents.digest())


def population_of(dataset: Iterable[Any], *, max_tokens: int | None = None) -> Population:
    """Lengths and contents from the records of a tokenised data set, users from its column ``user`` if it has one.

    Args:
        max_tokens: what records were cut to; needed by random_chunk.
    """
    return read_of(dataset).population(max_tokens=max_tokens)


def refuse_other(population: Population, given: Population) -> None:
    """Refuse a population of other records, or in another order: a user who is taken for another is not protected.

    Args:
        given: ``population_of`` the data set.

    Raises:
        BadInput: lengths differ, or users where the data set has a column ``user``, or contents where both tell them.
    """
    named = any(user is not None for user in given.users)
    comparable = population.contents is not None and given.contents is not None
    if (
        given.lengths != population.lengths
        or (named and given.users != population.users)
        or (comparable and given.contents != population.contents)
    ):
        raise BadInput(
            "the population",
            "is not that of train_dataset, record by record: users could be taken for others",
            "Leave population out, or do not shuffle, cut or filter the data afterwards (shuffle_dataset=False).",
        )


def _user(item: Any) -> str | None:
    user = item.get("user") if isinstance(item, Mapping) else None
    return None if user is None else str(user)
