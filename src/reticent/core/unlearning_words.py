# SPDX-License-Identifier: Apache-2.0
"""Every word that a verification of unlearning may come to, and no other: checks, verdict, page and certificate take
theirs from here.

No phrase is stronger than "not detected by these attacks". There is no word for "gone": weights cannot be searched, and
an attack that nobody ran may find more.
"""

from __future__ import annotations

LIKE_UNSEEN, AMONG_RETRAINED = "like unseen", "among the retrained"
STILL_KNOWN, MARKED, TOO_FEW = "still known", "marked by its absence", "too few to tell"
WORDS = (LIKE_UNSEEN, AMONG_RETRAINED, STILL_KNOWN, MARKED, TOO_FEW)
"""Words of one check."""

NOT_DETECTED = "not_detected"
HEADLINES = {
    "still_known": "The forget set is still known.",
    "marked": "The forget set is marked by its absence.",
    "too_few": "Too few to tell.",
    "never_known": "Nothing was shown to be forgotten: the tuned model was not shown to know the forget set.",
    NOT_DETECTED: "Not detected by these attacks.",
}
"""The verdict's first sentence by its status."""
STATUSES = tuple(HEADLINES)

STATUS_OF_WORD = {STILL_KNOWN: "still_known", MARKED: "marked", TOO_FEW: "too_few"}
"""Status that a word leads to; the other words are reasons to say "not detected"."""

STRONGEST = HEADLINES[NOT_DETECTED]

NOT_CLAIMED = (
    "Backups, exports and other copies of the model, and checkpoints that were saved while it was trained.",
    "Data derived from the forget set: indexes, caches, logs, synthetic text, models distilled from this one.",
    "Attacks that were not run, and attacks that nobody knows yet.",
    "What the base model knew before tuning: its own training data may hold the same facts.",
    "Other records that quote the forget set, beyond those that the request names.",
)
"""Nothing in a certificate speaks about these."""
