# SPDX-License-Identifier: Apache-2.0
"""Natural identifiers: find them, put controls in their places, let both models rank, and judge the ranks."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reticent.attacks.natural_identifiers import ACCESS, NAME, natural_identifiers
from reticent.attacks.pii.evidence import CandidateRanking
from reticent.auditing.case import AuditCase
from reticent.auditing.extraction.prompts import make_prompts
from reticent.auditing.models import Models, scored_models
from reticent.auditing.verdict import severity
from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate, Finding, Severity, ThreatModel
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
from reticent.stats.hypothesis import family_confidence
from reticent.stats.proportions import share
from reticent.stats.uniform_ranks import rank_sum_p, top_p

CONTROLS = 99
"""Controls of each identifier: with itself a hundred, so that the first place is 1 % false alarms."""
MOST = 200
"""Identifiers of one side. Each is read with all controls by both models."""
LEAST = 10
"""Fewer identifiers than this, and nothing is said."""
MISFIT = 0.01
"""Identifiers that were held out and do not rank uniformly at this level show that controls are unlike real values."""
METRICS = ("auc", "tpr@0.01")
_WORD_BEFORE = re.compile(r"\S\s")
TESTED = "identifiers of one form in records that were trained on"


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentifierEvidence:
    """Ranks of ``N`` different identifiers among themselves and `CONTROLS` controls.

    Args:
        rank: ``[N]``, 1 = likeliest.
        member: ``[N]`` whether a record with it was trained on.
        kind: ``[N]`` of each.
        user: ``[N]`` whose each is; the record where nobody knows.
        left_out: how many were not ranked, by reason.
    """

    rank: npt.NDArray[np.int64]
    member: npt.NDArray[np.bool_]
    kind: tuple[str, ...]
    user: tuple[str, ...]
    left_out: dict[str, int]


def collect(case: AuditCase, models: Models, *, cache: Path) -> IdentifierEvidence:
    """Rank the identifiers of all records that were trained on, and of those that were held out.

    Args:
        cache: content-addressed store of the scores. It holds numbers only.
    """
    target, base = scored_models(models)
    both = (target,) if base is None else (target, base)
    detectors = [one for one in choose() if one.evidence is not SpanEvidence.MODEL] + pattern_detectors(HASHES)
    left_out: Counter[str] = Counter()
    found = [one for member in (True, False) for one in _targets(case, both, member, detectors, left_out)]
    ranked: list[tuple[Secret, MaskedSpan]] = []
    for one in found:
        blank = _blank(one, detectors)
        if blank is None:
            left_out["allow fewer than 99 other values with right check digits"] += 1
        elif not _readable(blank, both):
            left_out["have no text before them"] += 1
        else:
            ranked.append((one, blank))
    blanks = [blank for _, blank in ranked]
    truth = np.array([blank.candidates.index(one.secret) for one, blank in ranked], dtype=np.int64)
    scored = [_ranked(side, blanks, truth, cache) for side in both] if blanks else [None, None]
    rank = np.zeros(0, dtype=np.int64)
    if scored[0] is not None:
        rank = natural_identifiers(scored[0], scored[1] if len(scored) == 2 else None)
    return IdentifierEvidence(
        rank=rank,
        member=np.array([one.member for one, _ in ranked], dtype=np.bool_),
        kind=tuple(one.kind for one, _ in ranked),
        user=tuple(one.record.user or one.record.id for one, _ in ranked),
        left_out=dict(left_out),
    )


def evaluate(found: IdentifierEvidence, *, confidence: float) -> tuple[list[Finding], list[str]]:
    """Findings about identifiers that were trained on, and what could not be said and why.

    Args:
        found: the ranks.
        confidence: that all findings hold together.
    """
    notes = [f"{NAME}: {count:,} values {why}, so they are not ranked" for why, count in sorted(found.left_out.items())]
    ranks = found.rank[found.member]
    if len(ranks) < LEAST:
        return [], [*notes, f"{NAME}: {len(ranks)} {TESTED}; needs {LEAST}"]
    control, why_not = _control(found.rank[~found.member])
    if why_not:
        return [], [*notes, why_not]
    each = family_confidence(confidence, len(METRICS))
    kinds = Counter(kind for kind, member in zip(found.kind, found.member.tolist(), strict=True) if member)
    about = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    users = [user for user, member in zip(found.user, found.member.tolist(), strict=True) if member]
    try:
        return [_finding(metric, ranks, users, each, (about, control)) for metric in METRICS], notes
    except Underpowered as error:
        return [], [*notes, f"{NAME}: {error}"]


# ---- which identifiers ------------------------------------------------------------------------------------------


def _targets(
    case: AuditCase, both: Sequence[ScoredModel], member: bool, detectors: Sequence[Detector], left_out: Counter[str]
) -> list[Secret]:
    """Different identifiers of one side that training saw whole, by hash of their records, at most ``MOST``."""
    membership = case.membership
    rows = (membership.member == member) & (membership.role != "shared")
    records = [record for record, chosen in zip(case.records, rows.tolist(), strict=True) if chosen]
    trained = (record.plain for record, inside in zip(case.records, membership.member.tolist(), strict=True) if inside)
    other = "" if member else "\n".join(map(letters_and_digits, trained))
    tokenizer = both[0].loaded.tokenizer
    room = min((most for side in both if (most := most_read(side.loaded.model))), default=None)
    taken: list[Secret] = []
    seen: set[str] = set()
    for record in sorted(records, key=lambda one: uniform(0, "identifier", one.id)):
        for one in _of_record(record, member, detectors):
            value = letters_and_digits(one.secret)
            if value in seen or value in other:
                continue
            seen.add(value)
            if make_prompts([one], tokenizer, max_tokens=case.max_tokens, room=room).kept:
                taken.append(one)
            else:
                left_out["are not whole in what is trained on"] += 1
        if len(taken) >= MOST:
            break
    return taken[:MOST]


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


def _blank(one: Secret, detectors: Sequence[Detector]) -> MaskedSpan | None:
    """The place with the value and its controls in alphabetical order, so that its place says nothing."""
    key = hashlib.sha256(f"controls\0{one.id}".encode("utf-8", "surrogatepass")).digest()
    made = controls(one.kind, one.secret, count=CONTROLS, key=key, detectors=detectors)
    if not made:
        return None
    return MaskedSpan(record=one.record, start=one.start, end=one.end, candidates=tuple(sorted([one.secret, *made])))


def _readable(blank: MaskedSpan, both: Sequence[ScoredModel]) -> bool:
    """Whether a whole word stands before the place and within what every model reads, so that there is a token before
    it in which no candidate has a part. Two candidates show it: the place is the same for all."""
    if not _WORD_BEFORE.search(blank.record.plain[: blank.start]):
        return False
    blank = replace(blank, candidates=blank.candidates[:2])
    try:
        for side in both:
            fill(blank, side.loaded.tokenizer, window=side.choices.window, follow=0)
    except BadInput:
        return False
    return True


def _ranked(
    side: ScoredModel, blanks: Sequence[MaskedSpan], truth: npt.NDArray[np.int64], cache: Path
) -> CandidateRanking:
    scores = make_candidate_scores(side, blanks, follow=0, cache=cache, title="Ranking identifiers")
    return CandidateRanking(logp=[one.logp for one in scores], truth=truth)


# ---- what the ranks say -----------------------------------------------------------------------------------------


def _control(ranks: npt.NDArray[np.int64]) -> tuple[str, str]:
    """What identifiers that were held out say of the controls: a note, or why nothing is believed."""
    if len(ranks) < LEAST:
        return f"{len(ranks)} held-out identifiers: too few to check the controls with", ""
    below = rank_sum_p(ranks, CONTROLS + 1)
    above = rank_sum_p(CONTROLS + 2 - ranks, CONTROLS + 1)
    p = min(1.0, 2 * min(below, above))
    said = f"{len(ranks)} identifiers of held-out records beat {_beaten(ranks).mean():.1%} of their controls"
    if p < MISFIT:
        return "", f"{NAME}: {said} (p = {p:.2g} for half of them), so controls are unlike real values: not believed"
    return f"{said} (p = {p:.2g} for half of them, which is what controls of the same form give)", ""


def _beaten(ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """``[N]``: share of its controls that each value is likelier than."""
    return (CONTROLS + 1 - ranks) / CONTROLS


def _finding(
    metric: str, ranks: npt.NDArray[np.int64], users: Sequence[str], confidence: float, notes: tuple[str, str]
) -> Finding:
    first = metric == "tpr@0.01"
    values = (ranks == 1).astype(np.float64) if first else _beaten(ranks)
    p = top_p(ranks, CONTROLS + 1, 1) if first else rank_sum_p(ranks, CONTROLS + 1)
    estimate = share(values, np.array(users), confidence=confidence)
    shown = f"{estimate.value:.1%} [{estimate.lo:.1%}, {estimate.hi:.1%}]"
    about = f"{len(ranks):,} identifiers that were trained on"
    what = (
        f"Of {about}, {shown} are likelier to the model than all {CONTROLS} controls of the same form (1 % is chance)."
        if first
        else f"{about} are likelier to the model than {shown} of {CONTROLS} controls of the same form (50 % is chance)."
    )
    return Finding(
        attack=NAME,
        level="identifier",
        metric=metric,
        estimate=replace(estimate, method=f"{estimate.method}; exact rank test p = {p:.2g}"),
        severity=_severity(metric, estimate, p, confidence),
        threat=ThreatModel(access=ACCESS, needs=("the base model", "the text around the identifier")),
        statement=f"{what} Exact p = {p:.2g}.",
        advice="Remove or mask identifiers before training, and drop repeated records.",
        notes=(f"{notes[0]}", notes[1], "exact where issuers draw these characters at random"),
    )


def _severity(metric: str, estimate: Estimate, p: float, confidence: float) -> Severity:
    """The exact test says whether, the interval how much."""
    if p > 1 - confidence:
        return Severity.NONE
    found = severity(metric, estimate.lo)
    return Severity.LOW if found is Severity.NONE else found
