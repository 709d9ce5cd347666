# SPDX-License-Identifier: Apache-2.0
"""Evidence in the text of a value: candidates that are ranked in its place, and proposals of the model for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reticent.attacks.pii import CandidateRanking, ProposedFills
from reticent.auditing.extraction.collect import SCHEME
from reticent.auditing.extraction.prompts import make_prompts
from reticent.auditing.pii.associations import LEAST, CandidatePool
from reticent.auditing.pii.evidence import EvidenceBuilder, rows_of, texts_after
from reticent.core.errors import BadInput
from reticent.core.secret import Secret
from reticent.data.pii.detect import find_all
from reticent.data.pii.detector import Detector
from reticent.score.candidates.cached import make_candidate_scores
from reticent.score.candidates.masked import MaskedSpan, fill
from reticent.score.forward import most_read
from reticent.score.make_tables import ScoredModel

PROPOSALS, PROPOSED_TOKENS, FOLLOW = 16, 24, 16
"""Continuations that are searched for proposals, their length, and the tokens behind the span that are read."""
CONTEXT = 80
"""Characters before the span that a detector sees beside a proposal."""


def rank_values(secrets: Sequence[Secret], pool: CandidatePool, builder: EvidenceBuilder) -> None:
    """Rank each value among others of its kind in its own text."""
    spans: list[MaskedSpan] = []
    ranked: list[Secret] = []
    for secret in secrets:
        candidates = pool.among(secret.secret, kind=secret.kind, member=secret.member, name=secret.id)
        if not candidates:
            reason = f"values are of a kind with fewer than {LEAST} values on one side, so they are not ranked"
            builder.left_out[reason] += 1
            continue
        span = MaskedSpan(record=secret.record, start=secret.start, end=secret.end, candidates=candidates)
        if not _readable(span, builder.models):
            builder.left_out["values have no text before them, so they are not ranked"] += 1
        else:
            spans.append(span)
            ranked.append(secret)
    truth = np.array(
        [span.candidates.index(secret.secret) for span, secret in zip(spans, ranked, strict=True)], dtype=np.int64
    )
    units = rows_of(ranked, [len(span.candidates) for span in spans])
    scored = [
        make_candidate_scores(model, spans, follow=0, cache=builder.cache, title="Ranking values")
        for model in builder.models
        if spans
    ]
    builder.add(
        "ranked",
        units,
        [CandidateRanking(logp=[span_scores.logp for span_scores in scores], truth=truth) for scores in scored],
    )


def _readable(span: MaskedSpan, models: Sequence[ScoredModel]) -> bool:
    """True where every model reads at least one token before the span."""
    try:
        for model in models:
            fill(span, model.loaded.tokenizer, window=model.choices.window, follow=0)
    except BadInput:
        return False
    return True


def propose_values(secrets: Sequence[Secret], detectors: Sequence[Detector], builder: EvidenceBuilder) -> None:
    """Values that each model proposes itself, found by detectors, and the perplexity of the text with each."""
    detectable = {kind for detector in detectors for kind in detector.kinds}
    chosen = [secret for secret in secrets if secret.kind in detectable]
    builder.left_out["values are of a kind that no detector finds, so none are proposed"] += len(secrets) - len(chosen)
    fills = [_proposals(model, chosen, detectors, builder) for model in builder.models if chosen]
    builder.left_out = +builder.left_out
    builder.add("proposed", rows_of(chosen, [0] * len(chosen)), fills)


def _proposals(
    model: ScoredModel, secrets: Sequence[Secret], detectors: Sequence[Detector], builder: EvidenceBuilder
) -> ProposedFills:
    tokenizer = model.loaded.tokenizer
    prompts = make_prompts(secrets, tokenizer, max_tokens=None, room=most_read(model.loaded.model)).kept
    texts = texts_after(
        model,
        [prompt.given().tolist() for prompt in prompts],
        builder,
        tokens=PROPOSED_TOKENS,
        samples=PROPOSALS,
        scheme=SCHEME,
        keys=[f"propose/{prompt.secret.id}" for prompt in prompts],
        title="Proposing values",
    )
    row_of = {prompt.secret.id: row for row, prompt in enumerate(prompts)}
    proposals = [
        _proposed(secret, texts[row_of[secret.id]] if secret.id in row_of else [], detectors) for secret in secrets
    ]
    perplexity = [np.zeros(0)] * len(secrets)
    rows = [row for row, proposed in enumerate(proposals) if proposed]
    spans = [
        MaskedSpan(record=t.record, start=t.start, end=t.end, candidates=proposals[row])
        for row in rows
        for t in [secrets[row]]
    ]
    readable = [(row, span) for row, span in zip(rows, spans, strict=True) if _readable(span, [model])]
    spans = [span for _, span in readable]
    scores = make_candidate_scores(
        model, spans, follow=FOLLOW, before=True, cache=builder.cache, title="Ranking proposals"
    )
    for (row, _), span_scores in zip(readable, scores, strict=True):
        perplexity[row] = span_scores.perplexity
    proposals = [proposed if len(fits) else () for proposed, fits in zip(proposals, perplexity, strict=True)]
    return ProposedFills(secrets=[secret.secret for secret in secrets], values=proposals, perplexity=perplexity)


def _proposed(secret: Secret, continuations: Sequence[str], detectors: Sequence[Detector]) -> tuple[str, ...]:
    """The different values of the secret's kind that begin where a continuation does."""
    places = [_joined(secret, text) for text in continuations]
    detected = find_all([joined for joined, _ in places], detectors)
    values = (
        next(
            (joined[start : span.end] for span in spans if span.kind == secret.kind and span.start <= start < span.end),
            "",
        )
        for (joined, start), spans in zip(places, detected, strict=True)
    )
    return tuple(dict.fromkeys(value for value in values if value))


def _joined(secret: Secret, text: str) -> tuple[str, int]:
    """The continuation after what stands before the secret, and where it begins there."""
    before = secret.record.plain[max(0, secret.start - CONTEXT) : secret.start]
    if text[:1].isspace():  # the space before the span may be part of its first token
        before = before.rstrip()
    start = len(before) + len(text) - len(text.lstrip())
    return before + text, start
