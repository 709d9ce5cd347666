# SPDX-License-Identifier: Apache-2.0
"""From targets to token ids: what the attacker gives the model, and what must follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.core.errors import BadInput
from reticent.core.record import Span
from reticent.core.secret import Secret
from reticent.models.encode import EncodedRecord, encode, leading_tokens, opening_tokens

LONGEST_PREFIX = 256
"""Tokens before a secret that the attacker gives; more add little and cost time."""
LONGEST_SECRET = 128

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtractionPrompt:
    """A target as token ids: ``lead`` (what stands before every text), then ``prefix``, then ``secret``.

    ``whole`` says whether the prefix is all that stands before the secret.
    """

    target: Secret
    lead: Tokens
    prefix: Tokens
    secret: Tokens
    whole: bool = False

    def given(self, *, most: int | None = None, prompt: Sequence[int] = ()) -> Tokens:
        """What the attacker gives: at most the last ``most`` tokens of the prefix, with other tokens before them."""
        last = self.prefix if most is None else self.prefix[max(len(self.prefix) - most, 0) :]
        return np.concatenate([self.lead, np.asarray(prompt, dtype=np.int32), last]).astype(np.int32)

    def forced(self, *, most: int | None = None, prompt: Sequence[int] = ()) -> EncodedRecord:
        """What the attacker gives and the secret, the secret marked."""
        return _followed(self.given(most=most, prompt=prompt), self.secret)

    def prompted(self, prompt: str, tokenizer: Any) -> EncodedRecord:
        """The same with words of the attacker before the prefix, read with it as one text.

        A prefix that was cut begins in the middle of a text, and a chat begins with marks of its template: the words
        stand before those as a text of their own.
        """
        record, at = self.target.record, len(prompt)
        if not self.whole or record.messages is not None:
            said = opening_tokens(prompt, tokenizer)[len(leading_tokens(tokenizer)) :]
            return self.forced(prompt=said)
        first, *others = (piece for _, piece in record.pieces)
        span = Span(start=self.target.start + at, end=self.target.end + at, kind=self.target.kind)
        row = encode(record.with_pieces([prompt + first, *others], (span,)), tokenizer, mark_spans=True)
        assert row.marked is not None
        places = np.flatnonzero(row.marked)
        # what stands in for a start of the text
        start: npt.ArrayLike = [] if len(leading_tokens(tokenizer)) else self.lead
        given = np.concatenate([np.asarray(start, dtype=np.int32), row.token_id[: places[0]]])
        return _followed(given, row.token_id[places[0] : places[-1] + 1])


def _followed(given: Tokens, secret: Tokens) -> EncodedRecord:
    whole = np.concatenate([given, secret]).astype(np.int32)
    return EncodedRecord(token_id=whole, trained=np.arange(len(whole)) >= len(given))


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtractionPrompts:
    """Targets that can be attacked, in order, and how many could not be, by reason."""

    kept: tuple[ExtractionPrompt, ...]
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.kept)


def make_prompts(
    targets: Sequence[Secret], tokenizer: Any, *, max_tokens: int | None, room: int | None
) -> ExtractionPrompts:
    """Encode every target and cut it at its secret.

    A text that nothing precedes gets the tokenizer's start token. A secret that training did not see whole, because it
    lies in a prompt or behind the cut, is dropped and counted: what was not trained on cannot have been memorized.

    Args:
        targets: what is to be pulled out.
        tokenizer: of the model under audit.
        max_tokens: how much of each record was trained on; None for all.
        room: most tokens that the model reads; None for no limit.
    """
    start = start_tokens(tokenizer)
    kept: list[ExtractionPrompt] = []
    dropped: Counter[str] = Counter()
    for target in targets:
        passage = _passage(target, tokenizer, start, max_tokens, room)
        if isinstance(passage, str):
            dropped[passage] += 1
        else:
            kept.append(passage)
    return ExtractionPrompts(kept=tuple(kept), dropped=dict(dropped))


def start_tokens(tokenizer: Any) -> list[int]:
    """What precedes a text in which nothing precedes it: what the tokenizer puts there by itself, else its
    beginning-of-text token, else its end-of-text token, which stands between texts.

    Raises:
        BadInput: it has none of these.
    """
    found = leading_tokens(tokenizer)
    if found:
        return found
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise BadInput("the tokenizer", "has no token to start a text with", "Set bos_token in its tokenizer_config.json.")


def _passage(
    target: Secret, tokenizer: Any, start: list[int], max_tokens: int | None, room: int | None
) -> ExtractionPrompt | str:
    span = Span(start=target.start, end=target.end, kind=target.kind)
    row = encode(replace(target.record, spans=(span,)), tokenizer, mark_spans=True)
    assert row.marked is not None
    places = np.flatnonzero(row.marked)
    if not places.size or not row.trained[places].all():
        return "not in what is trained on"
    first, end = int(places[0]), int(places[-1]) + 1
    if max_tokens is not None and end > max_tokens:
        return "behind where training cut the record off"
    if end - first > LONGEST_SECRET:
        return f"longer than {LONGEST_SECRET} tokens"
    lead = leading_tokens(tokenizer) if target.record.messages is None else []
    prefix = row.token_id[len(lead) : first]
    if not lead and not len(prefix):
        lead = start
    most = LONGEST_PREFIX if room is None else min(LONGEST_PREFIX, room - (end - first) - len(lead) - SPARE)
    if most < 1:
        return "too long for the model"
    return ExtractionPrompt(
        target=target,
        lead=np.asarray(lead, dtype=np.int32),
        prefix=prefix[max(len(prefix) - most, 0) :],
        secret=row.token_id[first:end],
        whole=len(prefix) <= most,
    )


SPARE = 64
"""Room left for attack prompts and for what a model writes beyond the secret."""
