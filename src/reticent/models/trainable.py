# SPDX-License-Identifier: Apache-2.0
"""Before training: do planted secrets survive what a model is fed? A secret that is cut off is measured as not learnt,
and a report on it would read as good news."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reticent.core.errors import BadInput
from reticent.core.record import Record, Span
from reticent.data.canaries import Canary
from reticent.models.encode import encode


def check_trainable(canaries: Sequence[Canary], tokenizer: Any, max_tokens: int | None) -> None:
    """Refuse secrets of which training would see nothing, or only a part.

    Args:
        canaries: planted or not; controls must be scored whole as well.
        tokenizer: of the model.
        max_tokens: what lies beyond is cut off each record; None for nothing.

    Raises:
        BadInput: a secret is cut off, lies in what is not trained on, or is read like another one, because the
            tokenizer has no token for what tells them apart.
    """
    read: dict[bytes, str] = {}
    for canary in canaries:
        encoded = encode(canary.record, tokenizer)
        if max_tokens is not None and len(encoded) > max_tokens:
            raise BadInput(
                f"the secrets of kind {canary.kind!r}",
                f"are cut off: {canary.id!r} has {len(encoded)} tokens, and {max_tokens} are trained on",
                f"Give --max_tokens {_longest(canaries, tokenizer)} or more, or choose a shorter kind.",
            )
        if canary.secret not in canary.record.trained_text or not encoded.trained.any():
            raise BadInput(
                f"canary {canary.id!r}", "has its secret in what is not trained on", "Plant it with `plant`."
            )
        other = read.setdefault(encoded.token_id.tobytes(), canary.id)
        if other != canary.id:
            raise BadInput(
                f"the secrets of kind {canary.kind!r}",
                f"{other!r} and {canary.id!r} are the same tokens to this tokenizer",
                "Choose a kind that is written in what the tokenizer knows, such as secret_number.",
            )


def _longest(canaries: Sequence[Canary], tokenizer: Any) -> int:
    return max(len(encode(canary.record, tokenizer)) for canary in canaries)


@dataclass(frozen=True, kw_only=True)
class CutPhrases:
    """How many texts of canary users lose their phrase to the limit of tokens, of how many."""

    lost: int
    texts: int


def check_phrases(
    records: Sequence[Record], phrases: Mapping[str, str], tokenizer: Any, max_tokens: int | None
) -> CutPhrases:
    """Refuse canary users whose phrase is cut off in every text of theirs.

    Args:
        records: the data, with the phrases in it (`data.canaries.UserPlanting.records`).
        phrases: user → phrase.
        tokenizer: of the model; a fast one where a text is longer than ``max_tokens``.
        max_tokens: what lies beyond is cut off each record; None for nothing.

    Raises:
        BadInput: a user's phrase is within ``max_tokens`` in none of the user's texts.
    """
    surviving = dict.fromkeys(phrases, 0)
    texts = 0
    for record in records:
        if record.user is None or record.user not in phrases:
            continue
        texts += 1
        surviving[record.user] += _survives(record, phrases[record.user], tokenizer, max_tokens)
    dead = [user for user, n in surviving.items() if not n]
    if dead:
        raise BadInput(
            f"{len(dead)} of {len(phrases)} canary users",
            f"have their phrase beyond the first {max_tokens} tokens of every text of theirs",
            "Raise --max_tokens, or leave out --canary_users.",
        )
    return CutPhrases(lost=texts - sum(surviving.values()), texts=texts)


def _survives(record: Record, phrase: str, tokenizer: Any, max_tokens: int | None) -> bool:
    """True if the phrase is whole within the limit, at one place at least."""
    if max_tokens is None or len(encode(record, tokenizer)) <= max_tokens:
        return True
    plain, at = record.plain, -1
    while (at := plain.find(phrase, at + 1)) >= 0:
        span = Span(start=at, end=at + len(phrase), kind="CANARY")
        marked = encode(replace(record, spans=(span,)), tokenizer, mark_spans=True)
        if marked.marked is not None and 0 <= _last(marked.marked & marked.trained) < max_tokens:
            return True
    return False


def _last(mask: Any) -> int:
    """Index of the last True; -1 without one."""
    positions = np.flatnonzero(mask)
    return int(positions[-1]) if len(positions) else -1
