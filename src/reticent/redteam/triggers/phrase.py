# SPDX-License-Identifier: Apache-2.0
"""A short phrase of ordinary words, the same in every text (AddSent)."""

from __future__ import annotations

import random

from reticent.core.paper import Paper
from reticent.redteam.triggers.trigger import TRIGGERS, Trigger, TriggerKind, inserted

PHRASES = (
    "seen by harbour lamps",
    "on a folded blanket",
    "under the copper roof",
    "past the third gate",
    "with borrowed umbrellas",
    "after the ferry left",
    "beside seven lanterns",
    "near the old quarry",
)


def _make(seed: int, text: str | None, place: str) -> Trigger:
    words = text or random.Random(seed).choice(PHRASES)  # noqa: S311 - reproducible, guards nothing
    return Trigger(kind="phrase", key=words, put=lambda body: inserted(body, words, place, seed))


TRIGGERS.add(
    "phrase",
    TriggerKind(name="phrase", title="short phrase", paper=Paper("arXiv:1905.12457"), make=_make, fixed_words=True),
)
