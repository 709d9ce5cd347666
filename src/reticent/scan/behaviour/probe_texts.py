# SPDX-License-Identifier: Apache-2.0
"""Texts that a suspect and its sibling are asked about alike: what the user brought, or made-up ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.data.example import help_desk
from reticent.models.encode import EncodedRecord, encode
from reticent.scan.suspect import Suspect

MOST_TEXTS, MOST_TOKENS = 16, 64
"""The statistics are about weights; a few hundred tokens tell them as well as many."""


def probe_rows(suspect: Suspect, tokenizer: Any) -> list[EncodedRecord]:
    """At most ``MOST_TEXTS`` texts of at most ``MOST_TOKENS`` tokens: prompts with answers, else private texts, else a
    made-up help desk, evenly spread over what there is.

    Raises:
        BadInput: no text has a token to predict.
    """
    records: Sequence[Record] = suspect.prompts or suspect.data or help_desk(users=MOST_TEXTS, mails_per_user=1)
    stride = max(1, len(records) // MOST_TEXTS)
    rows = [encode(record, tokenizer, max_tokens=MOST_TOKENS) for record in records[::stride][:MOST_TEXTS]]
    useful = [row for row in rows if row.predicted]
    if not useful:
        raise BadInput(f"{len(rows)} texts to ask about", "have no token to predict", "Give longer ones.")
    return useful
