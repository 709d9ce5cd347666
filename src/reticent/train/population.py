# SPDX-License-Identifier: Apache-2.0
"""Whose records a tokenised data set holds, record by record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reticent.core.errors import BadInput
from reticent.privacy.sampling import Population
from reticent.train.micro_batches import tokens_of


def population_of(dataset: Iterable[Any], *, max_tokens: int | None = None) -> Population:
    """Lengths from the records of a tokenised data set, users from its column ``user`` where it has one.

    Args:
        max_tokens: what records were cut to; needed by random_chunk.
    """
    users, lengths = [], []
    for item in dataset:
        users.append(_user(item))
        lengths.append(len(tokens_of(item).ids))
    return Population(users=tuple(users), lengths=tuple(lengths), max_tokens=max_tokens)


def refuse_other(population: Population, found: Population) -> None:
    """Refuse a population of other records, or in another order: a user who is taken for another is not protected.

    Args:
        found: ``population_of`` the data set.

    Raises:
        BadInput: lengths differ, or users where the data set has a column ``user``.
    """
    named = any(user is not None for user in found.users)
    if found.lengths != population.lengths or (named and found.users != population.users):
        raise BadInput(
            "the population",
            "is not that of train_dataset, record by record: users could be taken for others",
            "Leave population out, or do not shuffle, cut or filter the data afterwards (shuffle_dataset=False).",
        )


def _user(item: Any) -> str | None:
    user = item.get("user") if isinstance(item, Mapping) else None
    return None if user is None else str(user)
