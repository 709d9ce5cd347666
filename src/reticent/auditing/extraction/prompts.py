# SPDX-License-Identifier: Apache-2.0
"""From secrets to token ids: the prefix that the attacker gives the model, and the suffix that must follow."""

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
    """A secret as token ids: ``bos``, then ``prefix``, then ``suffix``.

    Args:
        secret: the secret and its record.
        bos: tokens that stand before every text.
        prefix: tokens between those and the secret; the last ``LONGEST_PREFIX`` at most.
        suffix: tokens of the secret itself. An attack succeeds where the model writes them.
        whole: the prefix is all that stands before the secret in its record.
    """

    secret: Secret
    bos: Tokens
    prefix: Tokens
    suffix: Tokens
    whole: bool = False

    def given(self, *, most: int | None = None, prompt: Sequence[int] = ()) -> Tokens:
        """Tokens that the attacker gives: ``prompt``, then the prefix, of which at most the last ``most`` tokens."""
        last = self.prefix if most is None else self.prefix[max(len(self.prefix) - most, 0) :]
        return np.concatenate([self.bos, np.asarray(prompt, dtype=np.int32), last]).astype(np.int32)

    def forced(self, *, most: int | None = None, prompt: Sequence[int] = ()) -> EncodedRecord:
        """The tokens of `given`, then the suffix; the suffix is marked as trained."""
        return _followed(self.given(most=most, prompt=prompt), self.suffix)

    def prompted(self, prompt: str, tokenizer: Any) -> EncodedRecord:
        """As `forced`, with the attacker's words ``prompt`` before the prefix, tokenized with it as one text.

        A prefix that was cut begins in the middle of a text, and a chat begins with marks of its template: the words
        stand before those as a text of their own.
        """
        record, at = self.secret.record, len(prompt)
        if not self.whole or record.messages is not None:
            opening = opening_tokens(prompt, tokenizer)[len(leading_tokens(tokenizer)) :]
            return self.forced(prompt=opening)
        first, *others = (piece for _, piece in record.pieces)
        span = Span(start=self.secret.start + at, end=self.secret.end + at, kind=self.secret.kind)
        row = encode(record.with_pieces([prompt + first, *others], (span,)), tokenizer, mark_spans=True)
        assert row.marked is not None
        positions = np.flatnonzero(row.marked)
        # the start token, where the tokenizer puts none there itself
        start: npt.ArrayLike = [] if len(leading_tokens(tokenizer)) else self.bos
        context = np.concatenate([np.asarray(start, dtype=np.int32), row.token_id[: positions[0]]])
        return _followed(context, row.token_id[positions[0] : positions[-1] + 1])


def _followed(context: Tokens, suffix: Tokens) -> EncodedRecord:
    token_id = np.concatenate([context, suffix]).astype(np.int32)
    return EncodedRecord(token_id=token_id, trained=np.arange(len(token_id)) >= len(context))


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtractionPrompts:
    """Prompts of the secrets that can be attacked, in order, and the number of those that cannot be, by reason."""

    kept: tuple[ExtractionPrompt, ...]
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.kept)


def make_prompts(
    secrets: Sequence[Secret], tokenizer: Any, *, max_tokens: int | None, room: int | None
) -> ExtractionPrompts:
    """Encode the record of every secret and cut it where the secret begins.

    A text that nothing precedes gets the tokenizer's start token. A secret that training did not see whole, because it
    lies in a prompt or behind the cut, is dropped and counted: what was not trained on cannot have been memorized.

    Args:
        secrets: to be extracted.
        tokenizer: of the model under audit.
        max_tokens: how much of each record was trained on; None for all.
        room: most tokens that the model reads; None for no limit.
    """
    start = start_tokens(tokenizer)
    prompts: list[ExtractionPrompt] = []
    dropped: Counter[str] = Counter()
    for secret in secrets:
        prompt = _prompt(secret, tokenizer, start, max_tokens, room)
        if isinstance(prompt, str):
            dropped[prompt] += 1
        else:
            prompts.append(prompt)
    return ExtractionPrompts(kept=tuple(prompts), dropped=dict(dropped))


def start_tokens(tokenizer: Any) -> list[int]:
    """Tokens that begin a text which has nothing before it: those that the tokenizer adds itself, else its
    beginning-of-text token, else its end-of-text token, which stands between texts.

    Raises:
        BadInput: it has none of these.
    """
    leading = leading_tokens(tokenizer)
    if leading:
        return leading
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise BadInput("the tokenizer", "has no token to start a text with", "Set bos_token in its tokenizer_config.json.")


def _prompt(
    secret: Secret, tokenizer: Any, start: list[int], max_tokens: int | None, room: int | None
) -> ExtractionPrompt | str:
    span = Span(start=secret.start, end=secret.end, kind=secret.kind)
    row = encode(replace(secret.record, spans=(span,)), tokenizer, mark_spans=True)
    assert row.marked is not None
    positions = np.flatnonzero(row.marked)
    if not positions.size or not row.trained[positions].all():
        return "not in what is trained on"
    first, end = int(positions[0]), int(positions[-1]) + 1
    if max_tokens is not None and end > max_tokens:
        return "behind where training cut the record off"
    if end - first > LONGEST_SECRET:
        return f"longer than {LONGEST_SECRET} tokens"
    bos = leading_tokens(tokenizer) if secret.record.messages is None else []
    prefix = row.token_id[len(bos) : first]
    if not bos and not len(prefix):
        bos = start
    most = LONGEST_PREFIX if room is None else min(LONGEST_PREFIX, room - (end - first) - len(bos) - SPARE)
    if most < 1:
        return "too long for the model"
    return ExtractionPrompt(
        secret=secret,
        bos=np.asarray(bos, dtype=np.int32),
        prefix=prefix[max(len(prefix) - most, 0) :],
        suffix=row.token_id[first:end],
        whole=len(prefix) <= most,
    )


SPARE = 64
"""Room left for attack prompts and for what a model writes beyond the secret."""
