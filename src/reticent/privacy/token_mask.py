# SPDX-License-Identifier: Apache-2.0
"""Selective privacy: what is learned from marked spans, with noise, and what from everything else, without.

A record with spans is trained on in two parts:

=======  ===============================================  ================================  ==========================
part     what the model reads                             what it learns                    gradient
=======  ===============================================  ================================  ==========================
public   the record with ``PLACEHOLDER`` for each span    tokens outside the placeholders   as it is
private  the record                                       tokens that touch a span          clipped, noised
=======  ===============================================  ================================  ==========================

The public part is a function of the text outside the spans and of where spans are. It has to be made of replaced text:
the loss of a token behind a secret, and even which tokens a text is cut into, depend on the secret. So no gradient
without noise depends on what a span holds, not even on its length, and a tokenizer that says wrongly which characters
a token stands for costs quality and not privacy. Tokens outside the spans are learned in the public part only.

Guarantee, with the noise of a `PrivacyPlan` over the private part: weights trained with the content of the marked
spans of one unit, and weights trained without learning that content, are (ε, δ)-indistinguishable, whatever the rest.
Not covered: what was not marked (a detector's recall is part of the promise), the text around spans, where they are,
and that two records are equal in full (copies are left out before).

The idea is that of selective DP-SGD (Shi et al., "Selective Differential Privacy for Language Modeling", NAACL 2022)
and MaskDP (arXiv:2410.17098); here the two parts come from two batches that are drawn independently, see
`reticent.train.private.public_batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from reticent.core.errors import BadInput
from reticent.core.progress import progress
from reticent.core.record import Record, Span
from reticent.models.encode import EncodedRecord, check_spans, encode

PLACEHOLDER = "___"
"""The text in place of a span, whatever it holds and however long it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SelectiveRecords:
    """Records as selective training sees them.

    Args:
        private: original texts of the records that have a span in what is trained on; only tokens that touch one are
            trained.
        records: ``[len(private)]``, which record each of them was.
        public: texts of all records with placeholders; trained where a record is, outside of placeholders. Records
            without such a token are left out.
    """

    private: tuple[EncodedRecord, ...]
    records: tuple[int, ...]
    public: tuple[EncodedRecord, ...]


def select(records: Sequence[Record], tokenizer: Any, *, max_tokens: int) -> SelectiveRecords:
    """Both parts of each record, ends of texts marked as in ordinary training.

    What is cut off at ``max_tokens`` is trained in neither part. Which records are in which part follows from the
    text outside the spans and from where spans are.

    Raises:
        BadInput: nothing is marked, or nothing is left of one of the parts; spans outside of their text; a chat in
            which they cannot be found; a slow tokenizer.
    """
    private, kept_out, public = [], [], []
    with progress("Tokenising", len(records), unit="records") as advance:
        for number, record in enumerate(records):
            encoded = _encode(redacted(record), tokenizer, max_tokens)
            encoded = _trained(encoded, outside=True)
            if encoded.predicted:
                public.append(encoded)
            if is_sensitive(record):
                private.append(_trained(_encode(record, tokenizer, max_tokens), outside=False))
                kept_out.append(number)
            advance(1)
    _check(records, private, public, max_tokens)
    return SelectiveRecords(private=tuple(private), records=tuple(kept_out), public=tuple(public))


def redacted(record: Record) -> Record:
    """The record with ``PLACEHOLDER`` in place of each marked stretch, and spans where placeholders are.

    Spans that overlap or touch are one stretch. The outcome does not depend on what the spans hold.

    Raises:
        BadInput: a span outside of the text.
    """
    check_spans(record)
    texts, spans, read, written = [], [], 0, 0
    for _, text in record.pieces:
        replaced, places = _replaced(text, _stretches(record.spans, read, read + len(text)))
        texts.append(replaced)
        spans += [Span(start=written + at, end=written + at + len(PLACEHOLDER), kind="") for at in places]
        read += len(text) + 1
        written += len(replaced) + 1
    if record.messages is not None:
        messages = tuple(replace(m, content=text) for m, text in zip(record.messages, texts, strict=True))
        return replace(record, messages=messages, spans=tuple(spans))
    if record.text is not None:
        return replace(record, text=texts[0], spans=tuple(spans))
    return replace(record, prompt=texts[0], completion=texts[1], spans=tuple(spans))


def is_sensitive(record: Record) -> bool:
    """True if a span lies in what is trained on of the record."""
    read = 0
    for trained, text in record.pieces:
        if trained and _stretches(record.spans, read, read + len(text)):
            return True
        read += len(text) + 1
    return False


def _stretches(spans: Sequence[Span], start: int, end: int) -> list[tuple[int, int]]:
    """The marked parts of characters ``start:end``, counted from ``start``, rising, with gaps between them."""
    stretches: list[tuple[int, int]] = []
    for span in sorted(spans, key=lambda span: span.start):
        first, last = max(span.start, start) - start, min(span.end, end) - start
        if first >= last:
            continue
        if stretches and first <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(last, stretches[-1][1]))
        else:
            stretches.append((first, last))
    return stretches


def _replaced(text: str, stretches: Sequence[tuple[int, int]]) -> tuple[str, list[int]]:
    """``text`` with a placeholder for each stretch, and where the placeholders start."""
    result, places, done = "", [], 0
    for start, end in stretches:
        result += text[done:start]
        places.append(len(result))
        result += PLACEHOLDER
        done = end
    return result + text[done:], places


def _encode(record: Record, tokenizer: Any, max_tokens: int) -> EncodedRecord:
    return encode(record, tokenizer, max_tokens=max_tokens, add_eos=True, mark_spans=True)


def _trained(encoded: EncodedRecord, *, outside: bool) -> EncodedRecord:
    """Trained on only inside, or only outside, of what is marked."""
    assert encoded.marked is not None
    return replace(encoded, trained=encoded.trained & (encoded.marked != outside))


def _check(
    records: Sequence[Record], private: list[EncodedRecord], public: list[EncodedRecord], max_tokens: int
) -> None:
    if not any(record.spans for record in records):
        raise BadInput(
            f"{len(records)} records",
            "have no marked spans, so protecting the spans would protect nothing",
            "Name the field that holds start and end of each (--spans_field), or protect whole texts (--protect all).",
        )
    if not any(part.predicted for part in private):
        raise BadInput(
            f"{len(records)} records",
            f"have no marked span in what is trained on of the first {max_tokens} tokens",
            "Raise --max_tokens, or protect whole texts (--protect all).",
        )
    if not public:
        raise BadInput(
            f"{len(records)} records",
            "are marked from beginning to end, so nothing of them is public",
            "Protect whole texts (--protect all).",
        )
