# SPDX-License-Identifier: Apache-2.0
"""Forget rows as what an attacker gives to a model and what must follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.record import Record
from reticent.models.encode import EncodedRecord, encode, leading_tokens

LONGEST, LONGEST_PREFIX = 50, 256
"""Tokens that must follow, and that are given, at most."""
SPARE = 64
"""Room left for attack prompts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Passage:
    """A row as what is given and what must follow, in tokens; the first ``lead`` stand before every text."""

    given: npt.NDArray[np.int32]
    follows: npt.NDArray[np.int32]
    lead: int = 0

    def after(self, words: Sequence[int]) -> EncodedRecord:
        """The whole, with an attacker's tokens before what is given; what follows is marked as trained."""
        parts = [self.given[: self.lead], np.asarray(words, dtype=np.int32), self.given[self.lead :], self.follows]
        token_id = np.concatenate(parts).astype(np.int32)
        return EncodedRecord(token_id=token_id, trained=np.arange(len(token_id)) >= len(token_id) - len(self.follows))


def passage(record: Record, tokenizer: Any, *, max_tokens: int | None, room: int | None) -> Passage | None:
    """The cut of one record; None where there is nothing to give or nothing follows."""
    row = encode(record, tokenizer, max_tokens=max_tokens)
    places = np.flatnonzero(row.trained[1:]) + 1
    if not len(places):
        return None
    whole = bool(row.trained[1:].all())
    start = int(places[len(places) // 2]) if whole else int(places[0])
    run = places[places >= start]
    gaps = np.flatnonzero(np.diff(run) > 1)
    end = int(run[gaps[0]] if len(gaps) else run[-1]) + 1
    end = min(end, start + LONGEST)
    most = LONGEST_PREFIX if room is None else min(LONGEST_PREFIX, room - (end - start) - SPARE)
    lead = leading_tokens(tokenizer)
    given = row.token_id[:start]
    if len(given) > most > len(lead):
        given = np.concatenate([lead, given[len(given) - most + len(lead) :]]).astype(np.int32)
    if not len(given) or most < 1:
        return None
    start_of_text = len(lead) if record.messages is None and given[: len(lead)].tolist() == list(lead) else 0
    return Passage(given=given, follows=row.token_id[start:end], lead=start_of_text)
