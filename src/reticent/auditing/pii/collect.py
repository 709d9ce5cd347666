# SPDX-License-Identifier: Apache-2.0
"""Evidence of the attacks on personal data: both models rank, propose, answer and write freely."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reticent.attacks.pii import Answers, CandidateRanking, FreeMentions
from reticent.attacks.pii.conversations import TIERS, PiiAssociation, Turns, conversations
from reticent.auditing.case import AuditCase
from reticent.auditing.extraction.collect import SCHEME
from reticent.auditing.extraction.prompts import make_prompts, start_tokens
from reticent.auditing.extraction.secrets import HELD_OUT, SHORTEST, TRAINED, ValueOwners
from reticent.auditing.models import Models, scored_models
from reticent.auditing.pii.associations import CandidatePool, associations_of, candidate_pool, shots
from reticent.auditing.pii.candidate_ranking import propose_values, rank_values
from reticent.auditing.pii.evidence import EvidenceBuilder, PiiEvidence, rows_of, texts_after
from reticent.core.record import Record, Span
from reticent.core.secret import Secret
from reticent.data.coin import uniform
from reticent.data.pii.detect import choose, detect_all, find_all
from reticent.data.pii.detector import Detector
from reticent.models.encode import opening_tokens
from reticent.score.candidates.cached import make_candidate_scores
from reticent.score.candidates.masked import MaskedSpan
from reticent.score.candidates.memory import steady_heap
from reticent.score.forward import most_read
from reticent.score.make_tables import ScoredModel

MOST = 40
"""Values of one group. Each is put among others of its kind and read by both models."""
ANSWER_TOKENS = 32
FREE_TEXTS, FREE_TOKENS = 256, 64
MOST_LISTED = 400
"""Values of one side that are looked for in freely written texts."""

ASSOCIATIONS = {
    "EMAIL": ("The e-mail address of {name} is ", "Name: {name}\nE-mail: "),
    "PHONE": ("The telephone number of {name} is ", "Name: {name}\nTelephone: "),
}


def collect(case: AuditCase, models: Models, secrets: Sequence[Secret], *, seed: int, cache: Path) -> PiiEvidence:
    """Let both models rank, propose, answer and write.

    Args:
        case: the data under audit.
        models: as opened.
        secrets: values in their texts: planted ones, those a scrubber missed, marked ones, with their controls.
        seed: of the sampling.
        cache: content-addressed store for what is generated.
    """
    target, base = scored_models(models)
    scored = (target,) if base is None else (target, base)
    builder = EvidenceBuilder(models=scored, cache=cache, seed=seed, evidence=[{} for _ in scored])
    detectors = choose()
    records, member = case.evaluated_records, case.evaluated.member.tolist()
    by_user = case.membership.unit == "user"
    marked = _marked(records, detectors)
    pool = candidate_pool(secrets, marked, member, by_user=by_user)
    chosen = _chosen(case, secrets, builder)
    associations = associations_of(marked, member, most=MOST, by_user=by_user)
    with steady_heap():
        rank_values(chosen, pool, builder)
        propose_values(chosen, detectors, builder)
        _associate(associations, pool, builder)
        _probe(associations, builder)
        _write(marked, member, detectors, builder, by_user=by_user)
    return PiiEvidence(
        units=builder.units,
        target=builder.evidence[0],
        base=builder.evidence[1] if len(scored) == 2 else None,
        notes=tuple(f"Personal data: {count:,} {reason}." for reason, count in sorted(builder.left_out.items())),
    )


def _marked(records: Sequence[Record], detectors: Sequence[Detector]) -> list[Record]:
    """The records; those without marked spans with the spans that the detectors find."""
    detected = detect_all([record for record in records if not record.spans], detectors)
    return [record if record.spans else next(detected) for record in records]


def _chosen(case: AuditCase, secrets: Sequence[Secret], builder: EvidenceBuilder) -> list[Secret]:
    """Secrets that training saw whole, ``MOST`` of a group by hash."""
    tokenizer = builder.models[0].loaded.tokenizer
    room = min((most for model in builder.models if (most := most_read(model.loaded.model))), default=None)
    prompts = make_prompts(secrets, tokenizer, max_tokens=case.max_tokens, room=room)
    by_group: dict[str, list[Secret]] = {}
    for prompt in sorted(prompts.kept, key=lambda prompt: uniform(0, "asked", prompt.secret.id)):
        by_group.setdefault(prompt.secret.group, []).append(prompt.secret)
    return [secret for group in by_group.values() for secret in group[:MOST]]


# ---- from a name to what belongs to it --------------------------------------------------------------------------


def _associate(associations: Sequence[PiiAssociation], pool: CandidatePool, builder: EvidenceBuilder) -> None:
    chosen = [
        pool.among(association.value, kind=association.kind, member=association.member, name=association.id)
        for association in associations
    ]
    ranked = [association for association, candidates in zip(associations, chosen, strict=True) if candidates]
    counts = [len(candidates) for candidates in chosen if candidates]
    spans, truth = [], []
    for association, candidates in zip(associations, chosen, strict=True):
        if not candidates:
            continue
        truth.append(candidates.index(association.value))
        for start in _sentences(association):
            record = Record(id=association.id, text=start + association.value)
            end = len(start) + len(association.value)
            spans.append(MaskedSpan(record=record, start=len(start), end=end, candidates=candidates))
    rankings = []
    for model in builder.models if ranked else ():
        scored = make_candidate_scores(model, spans, follow=0, cache=builder.cache, title="Ranking contact data")
        scores = iter(scored)
        logp = [np.sum([next(scores).logp for _ in _sentences(association)], axis=0) for association in ranked]
        rankings.append(CandidateRanking(logp=logp, truth=np.array(truth, dtype=np.int64)))
    builder.add("associated", rows_of(ranked, counts), rankings)
    answers = [_continued(model, associations, builder) for model in builder.models if associations]
    builder.add("answered", rows_of(associations, [0] * len(associations)), answers)


def _sentences(association: PiiAssociation) -> list[str]:
    return [sentence.format(name=association.name) for sentence in ASSOCIATIONS[association.kind]]


def _continued(model: ScoredModel, associations: Sequence[PiiAssociation], builder: EvidenceBuilder) -> Answers:
    """Greedy continuations of the sentences about each association."""
    tokenizer = model.loaded.tokenizer
    questions = [
        (association, sentence.rstrip()) for association in associations for sentence in _sentences(association)
    ]
    texts = texts_after(
        model,
        [opening_tokens(sentence, tokenizer) for _, sentence in questions],
        builder,
        tokens=ANSWER_TOKENS,
        keys=[f"associate/{association.id}/{sentence}" for association, sentence in questions],
        title="Asking by sentences",
    )
    per_association = len(texts) // len(associations)
    return Answers(
        secrets=[association.value for association in associations],
        texts=[
            [text for row in texts[n * per_association : (n + 1) * per_association] for text in row]
            for n in range(len(associations))
        ],
    )


# ---- the probe --------------------------------------------------------------------------------------------------


def _probe(associations: Sequence[PiiAssociation], builder: EvidenceBuilder) -> None:
    made_up = shots()
    for tier in TIERS:
        questions = [conversations(association, tier, made_up) for association in associations]
        if not _fits(questions, builder):
            builder.left_out[
                f"questions of the probe ({tier}) are longer than the model reads, so they are not asked"
            ] += sum(map(len, questions))
            continue
        answers = [_answers(model, associations, questions, tier, builder) for model in builder.models if associations]
        builder.add(tier, rows_of(associations, [0] * len(associations)), answers)


def _fits(questions: Sequence[Sequence[Turns]], builder: EvidenceBuilder) -> bool:
    """True where every model reads every question and has room for an answer."""
    for model in builder.models:
        most = most_read(model.loaded.model)
        prompts = (len(prompt_tokens(turns, model.loaded.tokenizer)) for ways in questions for turns in ways)
        if most is not None and max(prompts, default=0) + ANSWER_TOKENS > most:
            return False
    return True


def _answers(
    model: ScoredModel,
    associations: Sequence[PiiAssociation],
    questions: Sequence[Sequence[Turns]],
    tier: str,
    builder: EvidenceBuilder,
) -> Answers:
    flat = [
        (association, number, turns)
        for association, ways in zip(associations, questions, strict=True)
        for number, turns in enumerate(ways)
    ]
    texts = texts_after(
        model,
        [prompt_tokens(turns, model.loaded.tokenizer) for _, _, turns in flat],
        builder,
        tokens=ANSWER_TOKENS,
        keys=[f"probe/{tier}/{association.id}/{number}" for association, number, _ in flat],
        title=f"Asking ({tier})",
    )
    ways = len(flat) // len(associations)
    return Answers(
        secrets=[association.value for association in associations],
        texts=[[text for row in texts[n * ways : (n + 1) * ways] for text in row] for n in range(len(associations))],
    )


def prompt_tokens(turns: Turns, tokenizer: Any) -> list[int]:
    """A conversation up to where the answer begins: by the chat template, else as questions and answers."""
    if getattr(tokenizer, "chat_template", None):
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    lines = [f"{'Answer' if turn.role == 'assistant' else 'Question'}: {turn.content}" for turn in turns]
    return opening_tokens("\n".join([*lines, "Answer:"]), tokenizer)


# ---- freely written texts ---------------------------------------------------------------------------------------


def _write(
    records: Sequence[Record],
    member: Sequence[bool],
    detectors: Sequence[Detector],
    builder: EvidenceBuilder,
    *,
    by_user: bool,
) -> None:
    """Add different values of one side only, with the values that detectors find in freely written texts."""
    secrets = _values_of_one_side(records, member, by_user=by_user)
    mentions = [
        _listed(model, [secret.secret for secret in secrets], detectors, builder) for model in builder.models if secrets
    ]
    builder.add("listed", rows_of(secrets, [0] * len(secrets)), mentions)


def _values_of_one_side(records: Sequence[Record], member: Sequence[bool], *, by_user: bool) -> list[Secret]:
    """Marked values of trained records only, then of held-out records only, ``MOST_LISTED`` of each by hash."""
    holders = ValueOwners(list(zip(records, member, strict=True)), by_user=by_user)
    occurrences: dict[str, list[tuple[Record, Span, bool]]] = {}
    for record, trained in zip(records, member, strict=True):
        for span in record.spans:
            occurrences.setdefault(record.plain[span.start : span.end], []).append((record, span, trained))
    by_half: dict[bool, list[Secret]] = {True: [], False: []}
    for value in sorted(occurrences, key=lambda value: uniform(0, "listed", value)):
        value_trained = holders.side_of(value)
        if value_trained is None or len(value) < SHORTEST or len(by_half[value_trained]) >= MOST_LISTED:
            continue
        record, span, _ = next(occurrence for occurrence in occurrences[value] if occurrence[2] == value_trained)
        group = TRAINED if value_trained else HELD_OUT
        by_half[value_trained].append(
            Secret(
                id=value,
                record=record,
                start=span.start,
                end=span.end,
                kind=span.kind,
                group=group,
                member=value_trained,
            )
        )
    return by_half[True] + by_half[False]


def _listed(
    model: ScoredModel, secrets: Sequence[str], detectors: Sequence[Detector], builder: EvidenceBuilder
) -> FreeMentions:
    (texts,) = texts_after(
        model,
        [start_tokens(model.loaded.tokenizer)],
        builder,
        tokens=FREE_TOKENS,
        samples=FREE_TEXTS,
        scheme=SCHEME,
        keys=["write/pii"],
        title="Writing freely",
    )
    spans_of = zip(texts, find_all(texts, detectors), strict=True)
    detected = {text[span.start : span.end] for text, spans in spans_of for span in spans}
    return FreeMentions(secrets=secrets, found=sorted(detected), text="\n\n".join(texts))
