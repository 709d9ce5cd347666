# SPDX-License-Identifier: Apache-2.0
"""Attacks that read a value's own text: candidates put in its place, and proposals of the model for it."""

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
from reticent.data.pii.detect import find
from reticent.data.pii.detector import Detector
from reticent.score.candidates.cached import make_candidate_scores
from reticent.score.candidates.masked import MaskedSpan, fill
from reticent.score.forward import most_read
from reticent.score.make_tables import ScoredModel

PROPOSALS, PROPOSED_TOKENS, FOLLOW = 16, 24, 16
"""Continuations in which proposals are looked for, their length, and how much text behind the place is read."""
CONTEXT = 80
"""Characters before the place that a detector sees beside a proposal."""


def rank_values(targets: Sequence[Secret], values: CandidatePool, gathered: EvidenceBuilder) -> None:
    """Rank each value among others of its kind in its own text."""
    blanks: list[MaskedSpan] = []
    ranked: list[Secret] = []
    for target in targets:
        candidates = values.among(target.secret, kind=target.kind, member=target.member, name=target.id)
        if not candidates:
            why = f"values are of a kind with fewer than {LEAST} values on one side, so they are not ranked"
            gathered.left_out[why] += 1
            continue
        blank = MaskedSpan(record=target.record, start=target.start, end=target.end, candidates=candidates)
        if not _readable(blank, gathered.sides):
            gathered.left_out["values have no text before them, so they are not ranked"] += 1
        else:
            blanks.append(blank)
            ranked.append(target)
    truth = np.array([b.candidates.index(t.secret) for b, t in zip(blanks, ranked, strict=True)], dtype=np.int64)
    units = rows_of(ranked, [len(blank.candidates) for blank in blanks])
    scored = [
        make_candidate_scores(side, blanks, follow=0, cache=gathered.cache, title="Ranking values")
        for side in gathered.sides
        if blanks
    ]
    gathered.add(
        "ranked", units, [CandidateRanking(logp=[one.logp for one in scores], truth=truth) for scores in scored]
    )


def _readable(blank: MaskedSpan, sides: Sequence[ScoredModel]) -> bool:
    """Whether every model reads something before the place."""
    try:
        for side in sides:
            fill(blank, side.loaded.tokenizer, window=side.choices.window, follow=0)
    except BadInput:
        return False
    return True


def propose_values(targets: Sequence[Secret], detectors: Sequence[Detector], gathered: EvidenceBuilder) -> None:
    """Values that each model proposes itself, found by detectors, and the perplexity of the text with each."""
    known = {kind for detector in detectors for kind in detector.kinds}
    fit = [target for target in targets if target.kind in known]
    gathered.left_out["values are of a kind that no detector finds, so none are proposed"] += len(targets) - len(fit)
    made = [_proposals(side, fit, detectors, gathered) for side in gathered.sides if fit]
    gathered.left_out = +gathered.left_out
    gathered.add("proposed", rows_of(fit, [0] * len(fit)), made)


def _proposals(
    side: ScoredModel, targets: Sequence[Secret], detectors: Sequence[Detector], gathered: EvidenceBuilder
) -> ProposedFills:
    tokenizer = side.loaded.tokenizer
    passages = make_prompts(targets, tokenizer, max_tokens=None, room=most_read(side.loaded.model)).kept
    texts = texts_after(
        side,
        [one.given().tolist() for one in passages],
        gathered,
        tokens=PROPOSED_TOKENS,
        samples=PROPOSALS,
        scheme=SCHEME,
        keys=[f"propose/{one.target.id}" for one in passages],
        title="Proposing values",
    )
    place = {one.target.id: row for row, one in enumerate(passages)}
    values: list[tuple[str, ...]] = []
    for target in targets:
        drawn = texts[place[target.id]] if target.id in place else []
        found = (_first(target, text, detectors) for text in drawn)
        values.append(tuple(dict.fromkeys(value for value in found if value)))
    perplexity = [np.zeros(0)] * len(targets)
    rows = [row for row, found in enumerate(values) if found]
    blanks = [
        MaskedSpan(record=t.record, start=t.start, end=t.end, candidates=values[row])
        for row in rows
        for t in [targets[row]]
    ]
    kept = [(row, blank) for row, blank in zip(rows, blanks, strict=True) if _readable(blank, [side])]
    blanks = [blank for _, blank in kept]
    scores = make_candidate_scores(
        side, blanks, follow=FOLLOW, before=True, cache=gathered.cache, title="Ranking proposals"
    )
    for (row, _), one in zip(kept, scores, strict=True):
        perplexity[row] = one.perplexity
    values = [found if len(fits) else () for found, fits in zip(values, perplexity, strict=True)]
    return ProposedFills(secrets=[target.secret for target in targets], values=values, perplexity=perplexity)


def _first(target: Secret, text: str, detectors: Sequence[Detector]) -> str:
    """The value of the target's kind that begins where the continuation does; empty if there is none."""
    before = target.record.plain[max(0, target.start - CONTEXT) : target.start]
    if text[:1].isspace():  # the space before the place may be part of its first token
        before = before.rstrip()
    start = len(before) + len(text) - len(text.lstrip())
    whole = before + text
    for span in find(whole, detectors):
        if span.kind == target.kind and span.start <= start < span.end:
            return whole[start : span.end]
    return ""
