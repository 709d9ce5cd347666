# SPDX-License-Identifier: Apache-2.0
"""Evidence of membership attacks: both models score every record once, then every attack reads the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reticent.attacks.attack import ATTACKS, Attack
from reticent.attacks.evidence import POPULATION
from reticent.attacks.membership.transferred import refuse_seen
from reticent.attacks.run import AttackOutcome, run_attack, run_attacks, run_whole
from reticent.auditing.family import Collection
from reticent.auditing.linked_tables import linked_tables, plain_requests
from reticent.auditing.membership.choose_attacks import AttackChoice, AvailableEvidence, choose
from reticent.auditing.membership.shadow_scores import Shadows
from reticent.auditing.membership.users import user_evidence
from reticent.auditing.membership.whitebox import collect_internals
from reticent.auditing.membership.written import continuations
from reticent.core.atomic import replacing
from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.core.table import iter_tables
from reticent.models.encode import encode
from reticent.score.internals.internals import Internals


@dataclass(frozen=True, kw_only=True, eq=False)
class MembershipEvidence:
    """Scores of all attacks for the evaluated records that could be scored.

    Args:
        membership: of these records, ``[N]``.
        scores: one array ``[N]`` for each attack; higher = leaks more.
        notes: edge cases that each attack counted.
        dropped: evaluated records without a single trained token to score.
        canary_users: fresh texts of users who were made canaries; None without such users or without a reference.
        inside: hidden states and gradients of the records of the record level, in order; None without ``whitebox``.
        choice: attacks that ran, and those that did not with the reason.
    """

    membership: Membership
    scores: dict[str, npt.NDArray[np.float64]]
    notes: dict[str, tuple[str, ...]]
    dropped: int
    canary_users: CanaryUserScores | None = None
    inside: Internals | None = None
    choice: AttackChoice = field(default_factory=lambda: AttackChoice(run=(), off={}))


@dataclass(frozen=True, kw_only=True, eq=False)
class CanaryUserScores:
    """Texts of canary users that were never trained on, ``[N]``, and their user inference score."""

    membership: Membership
    score: npt.NDArray[np.float64]


def collect(audit: Collection) -> MembershipEvidence:
    """Choose attacks by the evidence that can be had, score, let the models write the texts they need, and run them.

    ``scores.parquet`` of the run folder is written.
    """
    case, config = audit.case, audit.config
    shadows: Shadows | None = audit.before["membership"]
    choice = choose(config.attacks, _available(audit, shadows=config.shadow))
    refuse_seen(choice.run, model=audit.models.target.fingerprint, data=case.data_fingerprint)
    plain = plain_requests(audit)
    requests = plain | {request for attack in choice.run for request in attack.requests}
    tables = linked_tables(audit, requests, case.evaluated_records, "evaluate")
    sources = {request.name: path for request, path in tables.items()}
    _scorable(sources["table"], {})
    if any(set(POPULATION) & set(attack.evidence) for attack in choice.run):
        for request, path in linked_tables(audit, plain, case.population, "known").items():
            sources["known" if request.model == "target" else "known_ref"] = path
    outcome = _outcome(audit, choice.run, sources, shadows)
    scorable = _scorable(sources["table"], outcome.scores)
    evidence = MembershipEvidence(
        membership=case.evaluated.take(scorable),
        scores={name: scores[scorable] for name, scores in outcome.scores.items()},
        notes=outcome.notes,
        dropped=int((~scorable).sum()),
        canary_users=_canary_users(audit) if audit.models.compared_with else None,
        choice=choice,
    )
    if config.whitebox:
        internals = collect_internals(case, audit.models, evidence.membership, cache=audit.cache, options=audit.options)
        evidence = replace(evidence, inside=internals)
    write_scores(audit.run.scores, evidence)
    return evidence


def _available(audit: Collection, *, shadows: int) -> AvailableEvidence:
    case = audit.case
    return AvailableEvidence(
        reference=audit.models.compared_with is not None,
        users=user_evidence(case.evaluated) is not None,
        population=_with_tokens(audit, case.population),
        known_held_out=_with_tokens(audit, case.of_role("known", member=False)),
        known_members=_with_tokens(audit, case.of_role("known", member=True)),
        shadows=shadows,
    )


def _with_tokens(audit: Collection, records: Sequence[Record]) -> int:
    """The number of records with a token that is trained on."""
    tokenizer = audit.models.target.tokenizer
    return sum(encode(record, tokenizer, max_tokens=audit.case.max_tokens).predicted > 0 for record in records)


def _outcome(
    audit: Collection, attacks: Sequence[Attack], sources: Mapping[str, Path], shadows: Shadows | None
) -> AttackOutcome:
    """Scores of all attacks: those that read tables, those that read shadow models, those that read written texts."""
    outcome = run_attacks([attack for attack in attacks if not (attack.writes or attack.shadowed)], sources)
    more = []
    if shadows is not None:
        more.append(_shadowed([attack for attack in attacks if attack.shadowed], shadows, sources))
    writing = [attack for attack in attacks if attack.writes]
    if writing:
        names = {name for attack in writing for name in attack.evidence}
        samples, seed = audit.config.written_samples, audit.config.seed
        written = continuations(audit.case, audit.models, names, samples=samples, seed=seed, cache=audit.cache)
        more.append(run_whole(writing, written))
    for further in more:
        outcome = AttackOutcome(scores=outcome.scores | further.scores, notes=outcome.notes | further.notes)
    return outcome


def _shadowed(attacks: Sequence[Attack], shadows: Shadows, sources: Mapping[str, Path]) -> AttackOutcome:
    """Attacks that read shadow models; NaN for records without a trained token."""
    tables = {"shadow": sources["table"]} | ({"known_shadow": sources["known"]} if "known" in sources else {})
    by_table = shadows.beside(tables)
    outcome = run_whole(attacks, {name: shadow_scores for name, (shadow_scores, _) in by_table.items()})
    full = by_table["shadow"][1]
    scores = {name: np.full(len(full), np.nan) for name in outcome.scores}
    for name, column in outcome.scores.items():
        scores[name][full] = column
    note = f"{shadows.inside.shape[1]} shadow models, each trained on a random part of the same records"
    return AttackOutcome(scores=scores, notes={name: (note, *notes) for name, notes in outcome.notes.items()})


def _canary_users(audit: Collection) -> CanaryUserScores | None:
    membership = audit.case.membership
    fresh = (membership.role == "canary") & ~membership.member
    if not fresh.any():
        return None
    attack = ATTACKS.get("user_inference")
    tables = linked_tables(audit, set(attack.requests), audit.case.of_role("canary", member=False), "canary_users")
    scores = run_attack(attack, {request.name: path for request, path in tables.items()})
    scorable = ~np.isnan(scores)
    return CanaryUserScores(membership=membership.take(fresh).take(scorable), score=scores[scorable])


def write_scores(path: Path, evidence: MembershipEvidence) -> None:
    """Write ``scores.parquet``: one row for each evaluated record, one column for each attack."""
    columns: Mapping[str, Any] = {
        "record_id": pa.array(evidence.membership.record_id, pa.string()),
        "user": pa.array(evidence.membership.user, pa.string()),
        "member": pa.array(evidence.membership.member),
        "user_member": pa.array(evidence.membership.user_member),
        "role": pa.array(evidence.membership.role, pa.string()),
        **{name: pa.array(scores) for name, scores in sorted(evidence.scores.items())},
    }
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns).replace_schema_metadata(evidence.membership.about), temporary)


def _scorable(table: Path, scores: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.bool_]:
    """``[N]``: the record has a trained token in every table that was read."""
    groups = [part.trained().lengths > 0 for part in iter_tables(table, columns=["loss_mask"])]
    scorable = np.concatenate(groups) if groups else np.zeros(0, dtype=bool)
    for column in scores.values():
        scorable &= ~np.isnan(column)
    if not scorable.any():
        raise BadInput("the records", "none has a trained token to score", "Give texts of at least two tokens.")
    return scorable
