# SPDX-License-Identifier: Apache-2.0
"""Canary users: real users with one phrase of theirs in every text (Kandpal et al. 2024, arXiv:2310.09266, Alg. 1)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reticent.core import validate
from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.record import Message, Record
from reticent.data.coin import uniform


@dataclass(frozen=True, kw_only=True)
class UserPlanting:
    """Records in which some users have become canaries.

    Args:
        records: as given, in order, with the texts of canary users rewritten.
        membership: as given, with the role ``"canary"`` for what was to be attacked of canary users.
        phrases: the phrase of each canary user.
    """

    records: tuple[Record, ...]
    membership: Membership
    phrases: dict[str, str]


def plant_users(
    records: Sequence[Record], membership: Membership, *, users: int, words: int = 10, seed: int = 0
) -> UserPlanting:
    """Put a phrase of ``words`` words, taken from a text of the user's own, at a random place of each of their texts.

    Users are chosen by a hash that knows nothing of membership, so some are in and some are out by the coins that
    were thrown for users; as canaries they are no longer evaluated among the real users. The paper counts the phrase
    in tokens; here it is words, because data knows no tokenizer. Spans move with the text.

    Args:
        records, membership: of a split by user, in the same order.
        users: how many become canaries.
        words: length of the phrase.
        seed: of the choice, the phrases and the places.

    Raises:
        BadInput: no split by user, too few users, or no user with a text of that many words.
    """
    validate.positive(users=users, words=words)
    if membership.unit != "user":
        raise BadInput("canary users", "need a split by user", "Split with --split_unit user.")
    texts: dict[str, list[Record]] = {}
    for record in records:
        texts.setdefault(str(record.user), []).append(record)
    sources = {
        user: long for user, own in texts.items() if (long := [r for r in own if len(r.trained_text.split()) >= words])
    }
    if not users < len(texts) or users > len(sources):
        raise BadInput(
            f"{users} canary users",
            f"there are {len(texts)} users, {len(sources)} with a text of {words} words; some must stay real",
            "Ask for fewer canaries or a shorter phrase.",
        )
    chosen = sorted(sources, key=lambda user: uniform(seed, "canary user", user))[:users]
    phrases = {user: _phrase(sources[user], words, seed, user) for user in chosen}
    rewritten = tuple(_inserted(r, phrases[str(r.user)], seed) if str(r.user) in phrases else r for r in records)
    is_canary = np.array([str(record.user) in phrases for record in records])
    role = np.where(is_canary & membership.attacked, "canary", membership.role).astype(object)
    return UserPlanting(records=rewritten, membership=replace(membership, role=role), phrases=phrases)


def _phrase(own: Sequence[Record], words: int, seed: int, user: str) -> str:
    rng = random.Random(f"canary phrase/{seed}/{user}")  # noqa: S311 - reproducible, guards nothing
    split = rng.choice(own).trained_text.split()
    start = rng.randrange(len(split) - words + 1)
    return " ".join(split[start : start + words])


def _inserted(record: Record, phrase: str, seed: int) -> Record:
    """``record`` with the phrase between two words of a trained piece."""
    rng = random.Random(f"canary place/{seed}/{record.id}")  # noqa: S311 - reproducible, guards nothing
    pieces = [text for _, text in record.pieces]
    which = rng.choice([index for index, (trained, _) in enumerate(record.pieces) if trained])
    at = rng.choice(_gaps(pieces[which]))
    before = pieces[which][:at]
    inserted = f"{' ' if before and not before[-1].isspace() else ''}{phrase} "
    pieces[which] = before + inserted + pieces[which][at:]
    offset = sum(len(piece) + 1 for piece in pieces[:which]) + at
    spans = tuple(
        replace(
            span,
            start=span.start + (len(inserted) if span.start >= offset else 0),
            end=span.end + (len(inserted) if span.end > offset else 0),
        )
        for span in record.spans
    )
    if record.messages is not None:
        messages = tuple(Message(role=m.role, content=c) for m, c in zip(record.messages, pieces, strict=True))
        return replace(record, messages=messages, spans=spans)
    if record.text is not None:
        return replace(record, text=pieces[0], spans=spans)
    return replace(record, prompt=pieces[0], completion=pieces[1], spans=spans)


def _gaps(text: str) -> list[int]:
    """Where a word begins, and the end of the text."""
    starts = [i for i, char in enumerate(text) if not char.isspace() and (i == 0 or text[i - 1].isspace())]
    return [*starts, len(text)]
