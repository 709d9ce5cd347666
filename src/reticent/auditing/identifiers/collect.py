# SPDX-License-Identifier: Apache-2.0
"""Natural identifiers of the records: find them, and let both models rank each among controls of the same form."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reticent.attacks.natural_identifiers import NAME, natural_identifiers
from reticent.attacks.pii.evidence import CandidateRanking
from reticent.auditing.case import AuditCase
from reticent.auditing.extraction.prompts import make_prompts
from reticent.auditing.models import Models, scored_models
from reticent.core.errors import BadInput
from reticent.core.record import Record
from reticent.core.secret import Secret
from reticent.data.coin import uniform
from reticent.data.identifier_controls import HASHES, controls, form_of
from reticent.data.pii.detect import choose, detect
from reticent.data.pii.detector import Detector, SpanEvidence
from reticent.data.pii.patterns import pattern_detectors
from reticent.data.pii.surrogate import letters_and_digits
from reticent.score.candidates.cached import make_candidate_scores
from reticent.score.candidates.masked import MaskedSpan, fill
from reticent.score.forward import most_read
from reticent.score.make_tables import ScoredModel

CONTROLS = 99
"""Controls of each identifier: with itself a hundred, so that the first place is 1 % false alarms."""
MOST = 200
"""Identifiers of one side. Each is read with all controls by both models."""
_WORD_BEFORE = re.compile(r"\S\s")


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentifierEvidence:
    """Ranks of ``N`` different identifiers among themselves and `CONTROLS` controls.

    Args:
        rank: ``[N]``, 1 = likeliest.
        member: ``[N]``, True where a record with it was trained on.
        kind: ``[N]``, kind of identifier.
        user: ``[N]``, its user; the record where none is known.
        left_out: number of identifiers that were not ranked, by reason.
    """

    rank: npt.NDArray[np.int64]
    member: npt.NDArray[np.bool_]
    kind: tuple[str, ...]
    user: tuple[str, ...]
    left_out: dict[str, int]


def collect(case: AuditCase, models: Models, *, cache: Path) -> IdentifierEvidence:
    """Rank the identifiers of all records that were trained on, and of those that were held out.

    Args:
        case: the records, and which of them were trained on.
        models: as opened.
        cache: content-addressed store of the scores. It holds numbers only.
    """
    target, base = scored_models(models)
    scored = (target,) if base is None else (target, base)
    left_out: Counter[str] = Counter()
    masked = _masked(case, scored, left_out)
    spans = [span for _, span in masked]
    truth = np.array([span.candidates.index(secret.secret) for secret, span in masked], dtype=np.int64)
    rank = np.zeros(0, dtype=np.int64)
    if spans:
        rankings = [_ranking(model, spans, truth, cache) for model in scored]
        rank = natural_identifiers(rankings[0], rankings[1] if base is not None else None).astype(np.int64)
    return IdentifierEvidence(
        rank=rank,
        member=np.array([secret.member for secret, _ in masked], dtype=np.bool_),
        kind=tuple(secret.kind for secret, _ in masked),
        user=tuple(secret.record.user or secret.record.id for secret, _ in masked),
        left_out=dict(left_out),
    )


def _masked(case: AuditCase, models: Sequence[ScoredModel], left_out: Counter[str]) -> list[tuple[Secret, MaskedSpan]]:
    """Each identifier that can be ranked, with the span that holds its candidates."""
    detectors = [detector for detector in choose() if detector.evidence is not SpanEvidence.MODEL]
    detectors += pattern_detectors(HASHES)
    masked: list[tuple[Secret, MaskedSpan]] = []
    for member in (True, False):
        for secret in _identifiers(case, models, member, detectors, left_out):
            span = _masked_span(secret, detectors)
            if span is None:
                left_out["allow fewer than 99 other values with right check digits"] += 1
            elif not _readable(span, models):
                left_out["have no text before them"] += 1
            else:
                masked.append((secret, span))
    return masked


def _identifiers(
    case: AuditCase, models: Sequence[ScoredModel], member: bool, detectors: Sequence[Detector], left_out: Counter[str]
) -> list[Secret]:
    """Different identifiers of one side that training saw whole, by hash of their records, at most ``MOST``."""
    membership = case.membership
    rows = (membership.member == member) & (membership.role != "shared")
    records = [record for record, chosen in zip(case.records, rows.tolist(), strict=True) if chosen]
    trained = (record.plain for record, inside in zip(case.records, membership.member.tolist(), strict=True) if inside)
    others = "" if member else "\n".join(map(letters_and_digits, trained))
    tokenizer = models[0].loaded.tokenizer
    room = min((most for model in models if (most := most_read(model.loaded.model))), default=None)
    secrets: list[Secret] = []
    seen: set[str] = set()
    for record in sorted(records, key=lambda record: uniform(0, "identifier", record.id)):
        for secret in _of_record(record, member, detectors):
            value = letters_and_digits(secret.secret)
            if value in seen or value in others:
                continue
            seen.add(value)
            if make_prompts([secret], tokenizer, max_tokens=case.max_tokens, room=room).kept:
                secrets.append(secret)
            else:
                left_out["are not whole in what is trained on"] += 1
        if len(secrets) >= MOST:
            break
    return secrets[:MOST]


def _of_record(record: Record, member: bool, detectors: Sequence[Detector]) -> Iterator[Secret]:
    """Identifiers whose free characters do not stand earlier in the text, where a model could copy them from."""
    plain = record.plain
    for span in detect(record, detectors).spans:
        value = plain[span.start : span.end]
        form = form_of(span.kind, value)
        if form is None or not record.trains_on(span):
            continue
        if form.free_part(value) in letters_and_digits(plain[: span.start]):
            continue
        yield Secret(
            id=f"{record.id}:{span.start}-{span.end}",
            record=replace(record, spans=()),
            start=span.start,
            end=span.end,
            kind=span.kind,
            group=NAME,
            member=member,
        )


def _masked_span(secret: Secret, detectors: Sequence[Detector]) -> MaskedSpan | None:
    """The span with the value and its controls in alphabetical order, so that the order says nothing; None where there
    are too few controls."""
    key = hashlib.sha256(f"controls\0{secret.id}".encode("utf-8", "surrogatepass")).digest()
    others = controls(secret.kind, secret.secret, count=CONTROLS, key=key, detectors=detectors)
    if not others:
        return None
    candidates = tuple(sorted([secret.secret, *others]))
    return MaskedSpan(record=secret.record, start=secret.start, end=secret.end, candidates=candidates)


def _readable(span: MaskedSpan, models: Sequence[ScoredModel]) -> bool:
    """True where a whole word stands before the span and within what every model reads: then a token lies before the
    span that no candidate is part of. The span is the same for all candidates, so two of them are tried."""
    if not _WORD_BEFORE.search(span.record.plain[: span.start]):
        return False
    span = replace(span, candidates=span.candidates[:2])
    try:
        for model in models:
            fill(span, model.loaded.tokenizer, window=model.choices.window, follow=0)
    except BadInput:
        return False
    return True


def _ranking(
    model: ScoredModel, spans: Sequence[MaskedSpan], truth: npt.NDArray[np.int64], cache: Path
) -> CandidateRanking:
    scores = make_candidate_scores(model, spans, follow=0, cache=cache, title="Ranking identifiers")
    return CandidateRanking(logp=[span_scores.logp for span_scores in scores], truth=truth)
