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
from reticent.core.record import Record
from reticent.data.coin import uniform
from reticent.data.words import needs_blank, pieces


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
    in tokens; here it is words (`data.words.pieces`), because data knows no tokenizer. Spans move with the text.

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
        user: long
        for user, of_user in texts.items()
        if (long := [r for r in of_user if len(pieces(r.trained_text)) >= words])
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


def _phrase(of_user: Sequence[Record], words: int, seed: int, user: str) -> str:
    rng = random.Random(f"canary phrase/{seed}/{user}")  # noqa: S311 - reproducible, guards nothing
    split = pieces(rng.choice(of_user).trained_text)
    start = rng.randrange(len(split) - words + 1)
    return " ".join("".join(split[start : start + words]).split())


def _inserted(record: Record, phrase: str, seed: int) -> Record:
    """``record`` with the phrase between two words of a trained piece."""
    rng = random.Random(f"canary place/{seed}/{record.id}")  # noqa: S311 - reproducible, guards nothing
    texts = [text for _, text in record.pieces]
    which = rng.choice([index for index, (trained, _) in enumerate(record.pieces) if trained])
    at = rng.choice(_gaps(texts[which]))
    before, behind = texts[which][:at], texts[which][at:]
    apart = " " if needs_blank(phrase, behind or "x") else ""
    inserted = f"{' ' if needs_blank(before, phrase) else ''}{phrase}{apart}"
    texts[which] = before + inserted + behind
    offset = sum(len(text) + 1 for text in texts[:which]) + at
    spans = tuple(
        replace(
            span,
            start=span.start + (len(inserted) if span.start >= offset else 0),
            end=span.end + (len(inserted) if span.end > offset else 0),
        )
        for span in record.spans
    )
    return record.with_pieces(texts, spans)


def _gaps(text: str) -> list[int]:
    """Where a word begins, and the end of the text."""
    starts, at = [], len(text) - len(text.lstrip())
    for piece in pieces(text):
        starts.append(at)
        at += len(piece)
    return [*starts, len(text)]
