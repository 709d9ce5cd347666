# SPDX-License-Identifier: Apache-2.0
"""The one step of an audit that runs models: score every record once, then let every attack read the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reticent.attacks.attack import ATTACKS, Attack
from reticent.attacks.evidence import POPULATION
from reticent.attacks.run import AttackOutcome, run_attack, run_attacks, run_whole
from reticent.auditing.case import AuditCase
from reticent.auditing.membership.shadow_scores import Shadows
from reticent.auditing.membership.written import continuations
from reticent.auditing.models import Models
from reticent.core.atomic import replacing
from reticent.core.errors import BadInput
from reticent.core.membership import Membership
from reticent.core.record import Record
from reticent.core.table import TokenTable, read_table
from reticent.score.engine import ScoreOptions
from reticent.score.internals.collect import Internals
from reticent.score.make_tables import make_tables
from reticent.score.requests import PLAIN, Request


@dataclass(frozen=True, kw_only=True, eq=False)
class MembershipEvidence:
    """What the attacks said about the evaluated records that could be scored.

    Args:
        membership: of these records, ``[N]``.
        scores: one array ``[N]`` for each attack; higher = leaks more.
        notes: edge cases that each attack counted.
        canaries: target's table of the secrets, in their order; None without canaries.
        canaries_ref: the reference's.
        dropped: evaluated records without a single trained token to score.
        canary_users: fresh texts of users who were made canaries; None without such users or without a reference.
        inside: hidden states and gradients of the records of the record level, in order; None where nobody asked.
    """

    membership: Membership
    scores: dict[str, npt.NDArray[np.float64]]
    notes: dict[str, tuple[str, ...]]
    canaries: TokenTable | None
    canaries_ref: TokenTable | None
    dropped: int
    canary_users: CanaryUserScores | None = None
    inside: Internals | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class CanaryUserScores:
    """Texts of canary users that were never trained on, ``[N]``, and their user inference score."""

    membership: Membership
    score: npt.NDArray[np.float64]


def collect(
    case: AuditCase,
    models: Models,
    attacks: Sequence[Attack],
    *,
    cache: Path,
    tables: Path,
    options: ScoreOptions,
    samples: int = 4,
    seed: int = 0,
    shadows: Shadows | None = None,
) -> MembershipEvidence:
    """Score, and let the models write, what the attacks ask for, and run them.

    Args:
        cache: content-addressed store of tables and of what was written, shared between runs.
        tables: folder of this run, where the tables are linked.
        samples: texts that each model writes about a record, for attacks that see nothing else.
        seed: of the writing.
        shadows: what shadow models say of the records, where some were trained.
    """

    def score(requests: set[Request], records: Sequence[Record], name: str) -> dict[Request, Path]:
        made = make_tables(
            requests,
            records,
            target=models.target,
            reference=models.reference,
            known_members=case.of_role("known", member=True),
            known_held_out=case.of_role("known", member=False),
            cache=cache,
            options=options,
        )
        return {request: _link(path, tables / f"{name}.{_label(request)}.parquet") for request, path in made.items()}

    plain = {Request(name="table")}
    if models.compared_with:
        plain.add(Request(name="ref", model="reference"))
    wanted = plain | {request for attack in attacks for request in attack.requests}
    sources = {request.name: path for request, path in score(wanted, case.evaluated_records, "evaluate").items()}
    _scorable(sources["table"], {})
    if any(set(POPULATION) & set(attack.evidence) for attack in attacks):
        for request, path in score(plain, case.population, "known").items():
            sources["known" if request.model == "target" else "known_ref"] = path
    outcome = run_attacks([attack for attack in attacks if not (attack.writes or attack.shadowed)], sources)
    if shadows is not None:
        more = _shadowed([attack for attack in attacks if attack.shadowed], shadows, sources)
        outcome = AttackOutcome(scores=outcome.scores | more.scores, notes=outcome.notes | more.notes)
    writing = [attack for attack in attacks if attack.writes]
    if writing:
        names = {name for attack in writing for name in attack.evidence}
        written = continuations(case, models, names, samples=samples, seed=seed, cache=cache)
        more = run_whole(writing, written)
        outcome = AttackOutcome(scores=outcome.scores | more.scores, notes=outcome.notes | more.notes)
    canaries = score(plain, [canary.record for canary in case.canaries], "canaries") if case.canaries else {}
    by_model = {request.model: read_table(path) for request, path in canaries.items()}
    kept = _scorable(sources["table"], outcome.scores)
    membership = case.evaluated
    return MembershipEvidence(
        membership=membership.take(kept),
        scores={name: scores[kept] for name, scores in outcome.scores.items()},
        notes=outcome.notes,
        canaries=by_model.get("target"),
        canaries_ref=by_model.get("reference"),
        dropped=int((~kept).sum()),
        canary_users=_canary_users(case, score) if models.compared_with else None,
    )


def _shadowed(attacks: Sequence[Attack], shadows: Shadows, sources: Mapping[str, Path]) -> AttackOutcome:
    """Attacks that read shadow models; NaN for records without a trained token."""
    tables = {"shadow": sources["table"]} | ({"known_shadow": sources["known"]} if "known" in sources else {})
    made = shadows.beside(tables)
    found = run_whole(attacks, {name: told for name, (told, _) in made.items()})
    full = made["shadow"][1]
    scores = {name: np.full(len(full), np.nan) for name in found.scores}
    for name, own in found.scores.items():
        scores[name][full] = own
    how = f"{shadows.inside.shape[1]} shadow models, each trained on a random part of the same records"
    return AttackOutcome(scores=scores, notes={name: (how, *notes) for name, notes in found.notes.items()})


def _canary_users(
    case: AuditCase, score: Callable[[set[Request], Sequence[Record], str], dict[Request, Path]]
) -> CanaryUserScores | None:
    membership = case.membership
    fresh = (membership.role == "canary") & ~membership.member
    if not fresh.any():
        return None
    attack = ATTACKS.get("user_inference")
    tables = score(set(attack.requests), case.of_role("canary", member=False), "canary_users")
    scores = run_attack(attack, {request.name: path for request, path in tables.items()})
    kept = ~np.isnan(scores)
    return CanaryUserScores(membership=membership.take(fresh).take(kept), score=scores[kept])


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
    kept = read_table(table, columns=["loss_mask"]).trained().lengths > 0
    for column in scores.values():
        kept &= ~np.isnan(column)
    if not kept.any():
        raise BadInput("the records", "none has a trained token to score", "Give texts of at least two tokens.")
    return kept


def _label(request: Request) -> str:
    return request.model if request.variant == PLAIN else f"{request.model}.{request.variant.name}"


def _link(cached: Path, path: Path) -> Path:
    """Link the table into the run folder, or copy it where links cannot be made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        try:
            temporary.hardlink_to(cached)
        except OSError:
            temporary.write_bytes(cached.read_bytes())
    return path
