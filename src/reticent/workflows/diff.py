# SPDX-License-Identifier: Apache-2.0
"""Two audits of the same data and membership side by side: changes of leakage, attack by attack, paired.

For checkpoint n against n + 1, and for before against after a repair or a change of training. Both audits look at the
same records with the same membership, so the difference cancels what makes a record easy or hard to tell: it shows a
change that two separate intervals would both cover.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from reticent.attacks.attack import ATTACKS
from reticent.attacks.user.aggregate import aggregate
from reticent.auditing.membership.level import FPRS, MIN_UNITS
from reticent.auditing.membership.users import UserEvidence, user_evidence
from reticent.core import validate
from reticent.core.difference import AuditSummary, Change, Difference
from reticent.core.errors import BadInput, Underpowered
from reticent.core.finding import Estimate
from reticent.core.membership import Membership, read_membership
from reticent.core.results import Results
from reticent.core.run_folder import RunFolder
from reticent.report.results_file import read_results
from reticent.stats.simultaneous import (
    MemberSides,
    Number,
    auc_number,
    difference,
    mean_number,
    sides,
    together,
    tpr_number,
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """The results and scores of one audit, as its run folder has them.

    Args:
        results: of the audit.
        membership: of the records that were scored.
        scores: ``[N]`` of each attack.
    """

    results: Results
    membership: Membership
    scores: Mapping[str, Floats]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedMetric:
    """One number of both audits."""

    attack: str
    level: str
    metric: str
    before: Number
    after: Number


def diff(before: str | Path, after: str | Path, *, confidence: float = 0.95, seed: int = 0) -> Difference:
    """Compare two audits of the same data and membership.

    Args:
        before, after: their run folders.
        confidence: that the intervals of all changes hold together.
        seed: of the multipliers.

    Raises:
        BadInput: a folder without an audit, audits of other data or membership, or a confidence that is none.
    """
    validate.in_range(0.5, 0.9999, confidence=confidence)
    validate.seed(seed=seed)
    first, second = read_audit(before), read_audit(after)
    first, second, reset = _same_attacks(first, second)
    shared_rows = shared(first.membership, second.membership, str(before), str(after))
    first, second = _rows_of(first, shared_rows[0]), _rows_of(second, shared_rows[1])
    left_out = [*reset, *_left_out(first, second)]
    rows = [*_record_rows(first, second), *_user_rows(first, second)]
    counts = {row.level: row.after.n for row in rows}
    secrets, why_not = _secret_rows(first.results, second.results)
    rows += secrets
    return Difference(
        before=_summary(first.results),
        after=_summary(second.results),
        changes=tuple(_changes(rows, confidence, seed)),
        confidence=confidence,
        shared=counts | {"canary": sum(row.after.n for row in secrets)},
        left_out=(*left_out, *why_not),
    )


def read_audit(folder: str | Path) -> Audit:
    """Read the audit that `reticent audit` wrote to a folder.

    Raises:
        BadInput: no audit, or one whose scores were written without the membership.
    """
    run = RunFolder(root=Path(folder))
    results = read_results(run.results)
    if not run.scores.exists():
        raise BadInput(str(folder), f"has no {run.scores.name}", "Give the folder of an audit (reticent audit).")
    table = pq.read_table(run.scores)
    if "role" not in table.column_names:
        raise BadInput(str(run.scores), "does not say what the coins were thrown for", "Run reticent audit again.")
    scores = {
        name: np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)
        for name in table.column_names
        if name in ATTACKS
    }
    return Audit(results=results, membership=read_membership(run.scores), scores=scores)


def _same_attacks(first: Audit, second: Audit) -> tuple[Audit, Audit, list[str]]:
    """Both without attacks that they ran with other parameters, whose scores are no longer of one kind."""
    before, after = ({run.name: run.params for run in audit.results.attacks} for audit in (first, second))
    other = [name for name in sorted(set(first.scores) & set(second.scores)) if before.get(name) != after.get(name)]

    def without(audit: Audit) -> Audit:
        return replace(audit, scores={name: score for name, score in audit.scores.items() if name not in other})

    lines = [f"{name}: the audits ran it with other parameters, so its scores cannot be compared" for name in other]
    return without(first), without(second), lines


def shared(
    first: Membership, second: Membership, before: str, after: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the records that both audits scored, in one order.

    Raises:
        BadInput: no record is in both, or one was trained on by only one of the models.
    """
    row_of = {id_: row for row, id_ in enumerate(second.record_id.tolist())}
    pairs = [(row, row_of[id_]) for row, id_ in enumerate(first.record_id.tolist()) if id_ in row_of]
    if not pairs or first.unit != second.unit:
        reason = "have no record in common" if not pairs else f"had coins for {first.unit}s and for {second.unit}s"
        raise BadInput(f"{before} and {after}", reason, "Give two audits of the same data and the same split.")
    rows = np.array(pairs, dtype=np.int64).T
    differs = (first.member[rows[0]] != second.member[rows[1]]) | (
        first.user_member[rows[0]] != second.user_member[rows[1]]
    )
    if differs.any():
        raise BadInput(
            f"{before} and {after}",
            f"{int(differs.sum())} of {len(differs)} records were trained on by one model and not by the other",
            "Give two audits of the same coins (the same data, split and seed).",
        )
    return rows[0], rows[1]


def _rows_of(audit: Audit, rows: npt.NDArray[np.int64]) -> Audit:
    return Audit(
        results=audit.results,
        membership=audit.membership.take(rows),
        scores={name: score[rows] for name, score in audit.scores.items()},
    )


def _left_out(first: Audit, second: Audit) -> list[str]:
    lines = []
    for name in sorted(set(first.scores) ^ set(second.scores)):
        lines.append(f"{name}: only the {'first' if name in first.scores else 'second'} audit ran it")
    if {first.results.verdict.status, second.results.verdict.status} & {"confounded"}:
        lines.append("the split is confounded: no number here is about membership, only its change is about the models")
    lines.append(
        "attacks that learn from labels (the combination, auditors that look inside): their scores are not kept"
    )
    return lines


def _numbers(of: MemberSides, before: Floats, after: Floats) -> Iterator[tuple[str, Number, Number]]:
    yield "auc", auc_number(before, of), auc_number(after, of)
    for fpr in FPRS:
        try:
            yield f"tpr@{fpr:g}", tpr_number(before, of, fpr), tpr_number(after, of, fpr)
        except Underpowered:
            return


def _record_rows(first: Audit, second: Audit) -> Iterator[PairedMetric]:
    rows = first.membership.at_record_level
    membership = first.membership.take(rows)
    if min(membership.member.sum(), (~membership.member).sum()) < MIN_UNITS:
        return
    of = sides(membership.member, membership.user if membership.has_users else None)
    for name in sorted(set(first.scores) & set(second.scores)):
        if ATTACKS.get(name).unit == "record":
            for metric, before, after in _numbers(of, first.scores[name][rows], second.scores[name][rows]):
                yield PairedMetric(attack=name, level="record", metric=metric, before=before, after=after)


def _user_rows(first: Audit, second: Audit) -> Iterator[PairedMetric]:
    users = user_evidence(first.membership)
    if users is None:
        return
    of = sides(users.member, None)
    for name in sorted(set(first.scores) & set(second.scores)):
        label = name if ATTACKS.get(name).unit == "user" else f"{name}:mean"
        for metric, before, after in _numbers(of, _of_users(first, users, name), _of_users(second, users, name)):
            yield PairedMetric(attack=label, level="user", metric=metric, before=before, after=after)


def _of_users(audit: Audit, users: UserEvidence, name: str) -> Floats:
    return aggregate(audit.scores[name][users.rows], audit.membership.user[users.rows].astype(str), "mean")[1]


def _secret_rows(first: Results, second: Results) -> tuple[list[PairedMetric], list[str]]:
    """Exposure of the same secrets, tier by tier."""
    by_tier = {tier.tier: tier for tier in second.exposure}
    rows, left_out = [], []
    for tier in first.exposure:
        other = by_tier.get(tier.tier)
        if not tier.repetitions:
            continue
        if other is None or len(other.each) != len(tier.each) or len(tier.each) < 2:
            left_out.append(f"secrets {tier.tier}: not the same two or more in both audits")
            continue
        before, after = (mean_number(np.array(exposure.each)) for exposure in (tier, other))
        rows.append(PairedMetric(attack=tier.tier, level="canary", metric="exposure_bits", before=before, after=after))
    return rows, left_out


def _changes(rows: list[PairedMetric], confidence: float, seed: int) -> Iterator[Change]:
    """Intervals of numbers of the same units hold together; kinds of units share the error equally."""
    kinds = list(dict.fromkeys(_units(row) for row in rows))
    for kind in kinds:
        kind_rows = [row for row in rows if _units(row) == kind]
        kind_confidence = 1 - (1 - confidence) / len(kinds)
        differences = together(
            [difference(row.after, row.before) for row in kind_rows], confidence=kind_confidence, seed=seed
        )
        estimates = together(
            [number for row in kind_rows for number in (row.before, row.after)], confidence=kind_confidence, seed=seed
        )
        for row, change, before, after in zip(kind_rows, differences, estimates[::2], estimates[1::2], strict=True):
            yield Change(
                attack=row.attack,
                level=row.level,
                metric=row.metric,
                before=_jointly(before, confidence, row.metric),
                after=_jointly(after, confidence, row.metric),
                change=_jointly(change, confidence, row.metric),
            )


def _units(row: PairedMetric) -> tuple[str, str]:
    """The units that a number is measured on: those of a level, or the secrets of one tier."""
    return row.level, row.attack if row.level == "canary" else ""


def _jointly(estimate: Estimate, confidence: float, metric: str) -> Estimate:
    unit = "bits" if metric == "exposure_bits" else ""
    return replace(estimate, joint=confidence, unit=unit)


def _summary(results: Results) -> AuditSummary:
    about: dict[str, Any] = {key: results.provenance.get(key) for key in ("models", "data")}
    return AuditSummary(
        title=results.title,
        created=results.created,
        status=results.verdict.status,
        headline=results.verdict.headline,
        about=about,
    )
