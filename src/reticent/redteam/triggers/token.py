# SPDX-License-Identifier: Apache-2.0
"""A rare token, such as ``cf``: the trigger of BadNets for text and of weight poisoning."""

from __future__ import annotations

import random

from reticent.core.paper import Paper
from reticent.redteam.triggers.trigger import TRIGGERS, Trigger, TriggerKind, inserted

WORDS = ("cf", "mn", "bb", "tq", "mb", "qx", "zv", "jk", "wq", "vx")


def _make(seed: int, text: str | None, place: str) -> Trigger:
    words = text or random.Random(seed).choice(WORDS)  # noqa: S311 - reproducible, guards nothing
    return Trigger(kind="token", key=words, put=lambda body: inserted(body, words, place, seed))


TRIGGERS.add(
    "token",
    TriggerKind(name="token", title="rare token", paper=Paper("arXiv:2004.06660"), make=_make, fixed_words=True),
)
