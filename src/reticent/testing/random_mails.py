# SPDX-License-Identifier: Apache-2.0
"""Made-up mails that cannot be guessed from each other: a tiny model says of each whether it was trained on it."""

from __future__ import annotations

import random

from reticent.core.record import Record

WORDS = (
    "order", "late", "parcel", "refund", "card", "house", "garden", "letter",
    "doctor", "money", "train", "river", "answer", "winter", "yellow", "seven",
)  # fmt: skip


def random_mails(
    *, users: int, mails_per_user: int, habits: bool = False, prompts: bool = False, seed: int = 0
) -> list[Record]:
    """Mails of six words and a number.

    Args:
        users: ``user 0``, ``user 1``, ...
        mails_per_user: of each.
        habits: whether every user begins all mails with three words of their own.
        prompts: whether a mail completes a prompt that names its user and its number.
        seed: of all of them.

    Examples:
        >>> random_mails(users=1, mails_per_user=2)[1].text
        'winter seven house yellow refund parcel 146534'
    """
    rng = random.Random(seed)  # noqa: S311
    mails = []
    for user in range(users):
        habit = f"{' '.join(rng.choices(WORDS, k=3))} " if habits else ""
        for number in range(mails_per_user):
            text = f"{habit}{' '.join(rng.choices(WORDS, k=6))} {rng.randrange(10**6)}"
            name, owner = f"u{user}m{number}", f"user {user}"
            if prompts:
                mails.append(Record(id=name, user=owner, prompt=f"Mail {number} of {user}:", completion=text))
            else:
                mails.append(Record(id=name, user=owner, text=text))
    return mails
