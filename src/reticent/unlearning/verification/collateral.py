# SPDX-License-Identifier: Apache-2.0
"""Collateral: what the unlearning cost those who stay. Utility on held-out text, the loss of the retain rows, and
whether these are easier to recognise than before, since forgetting some can raise the risk of the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import ATTACKS
from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.section import Cell, Column, Section, Table, Words
from reticent.core.table import TokenTable
from reticent.core.unlearning import BASE, Measurement, PlanePoint, UnlearningCheck, UnlearningModel
from reticent.stats.means import ratio_of_sums
from reticent.stats.simultaneous import Number, auc_number, difference, sides, together
from reticent.unlearning.verification.beside import beside_cells, beside_columns
from reticent.unlearning.verification.check import Judging, Visit, check

NAME = "collateral"
NATS = "nats a token"
ATTACK = "ref_ratio"
"""Attack on the retain rows; the loss alone where there is no base."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelLosses:
    """Token tables of one model.

    Args:
        judged: of the judged rows.
        held_out: of `VerificationCase.held_out`; None where the unseen rows serve.
    """

    judged: TokenTable
    held_out: TokenTable | None


def read(visit: Visit) -> ModelLosses:
    """The tables of judged rows and of held-out rows."""
    held_out = list(visit.case.held_out)
    return ModelLosses(judged=visit.table, held_out=visit.table_of(held_out) if held_out else None)


def evaluate(losses: Mapping[str, ModelLosses], judging: Judging) -> UnlearningCheck:
    """Losses of all models, and how recognisable the retain rows are, before and after."""
    rows: list[tuple[Cell, ...]] = []
    measured: list[Measurement] = []
    for what, by_model in _losses(losses, judging).items():
        rows.append(beside_cells(what, by_model, judging, word=None))
        measured += _measured(judging, what, NATS, by_model)
    loss_changes = _changes(losses, judging)
    tables = [_table("losses", "Mean loss, nats a token; lower is better", tuple(rows))]
    if loss_changes:
        tables.append(_change_table("loss-changes", "Unlearned minus untouched, nats a token", loss_changes))
        measured += _of_after(judging, "loss change, ", NATS, loss_changes)
    notes, sentence = [], ""
    risks = _risks(losses, judging)
    if isinstance(risks, str):
        notes.append(f"The risk of the retain rows was not measured: {risks}.")
    else:
        aucs, change, attack = risks
        tables.append(
            _table(
                "retain-risk",
                f"AUC of retain rows against unseen rows ({attack})",
                (beside_cells("retain rows", aucs, judging, word=None),),
                metric="auc",
            )
        )
        tables.append(_change_table("retain-risk-change", "Its change by the unlearning", {"retain rows": change}))
        measured += _measured(judging, f"retain rows, {attack}", "auc", aucs)
        measured += _of_after(judging, "change of AUC, ", "difference of AUC", {"retain rows": change})
        sentence = _sentence(change)
    if not judging.case.held_out:
        notes.append("Held-out rows are the unseen rows.")
    section = Section(
        name=NAME,
        title=CHECK.title,
        lede="What it cost: losses of text that is still wanted, and whether the rows that stay became easier to "
        "recognise. Differences are of the same rows.",
        tables=tuple(tables),
        notes=tuple(notes),
    )
    return UnlearningCheck(
        name=NAME, sentence=sentence, section=section, measured=tuple(measured), points=_points(losses, judging)
    )


def _sentence(change: Estimate) -> str:
    ends = f"[{change.lo:+.3f}, {change.hi:+.3f}]"
    if change.lo > 0:
        return f"Collateral: the retain rows became easier to recognise, AUC {change.value:+.3f} {ends}."
    if change.hi < 0:
        return f"Collateral: the retain rows became harder to recognise, AUC {change.value:+.3f} {ends}."
    return f"Collateral: no change of the retain rows' risk was shown, AUC {change.value:+.3f} {ends}."


def _losses(losses: Mapping[str, ModelLosses], judging: Judging) -> dict[str, dict[str, Estimate]]:
    """Mean loss by kind of rows and by model."""
    parts = {"forget rows": judging.forget, "unseen rows": judging.unseen, "retain rows": judging.retain}
    by_kind: dict[str, dict[str, Estimate]] = {}
    for model in judging.models:
        entry = losses[model.name]
        for what, mask in parts.items():
            if mask.any():
                table, owners = entry.judged.take(mask), judging.owners(mask)
                _put(by_kind, what, model.name, mean_loss(table, owners, confidence=judging.config.confidence))
        if entry.held_out is not None:
            owners = _owners_of_held_out(judging)
            _put(
                by_kind,
                "held-out rows",
                model.name,
                mean_loss(entry.held_out, owners, confidence=judging.config.confidence),
            )
    return by_kind


def _put(by_kind: dict[str, dict[str, Estimate]], what: str, model: str, estimate: Estimate | None) -> None:
    if estimate is not None:
        by_kind.setdefault(what, {})[model] = estimate


def _owners_of_held_out(judging: Judging) -> npt.NDArray[np.object_] | None:
    users = [record.user for record in judging.case.held_out]
    if not any(user is not None for user in users):
        return None
    return np.array([user or f"row {number}" for number, user in enumerate(users)], dtype=object)


def mean_loss(
    table: TokenTable, owners: npt.NDArray[np.object_] | None, *, confidence: float = 0.95
) -> Estimate | None:
    """Mean over tokens, nats a token, with an interval over owners; None with a single owner."""
    try:
        return ratio_of_sums(
            -table.sum(table["logp"]), table.lengths, owners, confidence=confidence, unit="", higher_is_worse=False
        )
    except Underpowered:
        return None


def _changes(losses: Mapping[str, ModelLosses], judging: Judging) -> dict[str, Estimate]:
    """Unlearned minus untouched, of the same tokens."""
    after, before = losses[judging.after.name], losses[judging.before.name]
    parts: list[tuple[str, TokenTable, TokenTable, npt.NDArray[np.object_] | None]] = []
    for what, mask in (("retain rows", judging.retain), ("unseen rows", judging.unseen)):
        if mask.any():
            parts.append((what, after.judged.take(mask), before.judged.take(mask), judging.owners(mask)))
    if after.held_out is not None and before.held_out is not None:
        parts.append(("held-out rows", after.held_out, before.held_out, _owners_of_held_out(judging)))
    changes = {}
    for what, later, earlier, owners in parts:
        try:
            changes[what] = ratio_of_sums(
                earlier.sum(earlier["logp"]) - later.sum(later["logp"]),
                later.lengths,
                owners,
                confidence=judging.config.confidence,
                higher_is_worse=True,
            )
        except Underpowered:
            continue
    return changes


def _risks(losses: Mapping[str, ModelLosses], judging: Judging) -> tuple[dict[str, Estimate], Estimate, str] | str:
    """AUCs of retain rows against unseen ones, the change by the unlearning, and the attack; or why there are none."""
    if not judging.retain.any():
        return "there are no retain rows"
    base = judging.base
    attack = ATTACKS.get(ATTACK if base is not None else "loss")
    rows = judging.retain | judging.unseen
    of = sides(judging.retain[rows], judging.owners(rows))
    numbers: dict[str, Number] = {}
    try:
        for model in judging.models:
            if model.role == BASE and base is not None:
                continue
            evidence = {"table": losses[model.name].judged.take(rows)}
            if base is not None:
                evidence["ref"] = losses[base.name].judged.take(rows)
            numbers[model.name] = auc_number(attack.score(evidence), of)
    except Underpowered as error:
        return f"{error.given}: {error.why}"
    change = difference(numbers[judging.after.name], numbers[judging.before.name])
    confidence = judging.config.confidence
    estimates = {name: together([number], confidence=confidence)[0] for name, number in numbers.items()}
    joined = together([change], confidence=confidence)[0]
    if change.error < 1e-12:
        joined = _apart(joined, estimates[judging.after.name], estimates[judging.before.name])
    return estimates, joined, attack.name


def _apart(change: Estimate, after: Estimate, before: Estimate) -> Estimate:
    """Where no pair of rows changed its order, as with two AUCs of 1: the interval of a difference of two AUCs that
    share nothing, which is wider (doi:10.1002/sim.3095)."""
    below = math.hypot(after.value - after.lo, before.hi - before.value)
    above = math.hypot(after.hi - after.value, before.value - before.lo)
    return replace(change, lo=change.value - below, hi=change.value + above, alone=None)


def _points(losses: Mapping[str, ModelLosses], judging: Judging) -> tuple[PlanePoint, ...]:
    """Each model's place in the forget-retain plane; none where there are too few rows for one of them."""
    places = [place_in_plane(model, losses[model.name].judged, judging) for model in judging.models]
    return tuple(place for place in places if place is not None)


def place_in_plane(model: UnlearningModel, judged: TokenTable, judging: Judging) -> PlanePoint | None:
    """A model's place in the forget-retain plane; None without retained rows, or where rows are too few.

    Args:
        model: name and role.
        judged: its table of the judged rows.
        judging: says which row is on which side, and whose it is.
    """
    if not judging.retain.any():
        return None
    rows = judging.forget | judging.unseen
    confidence = judging.config.confidence
    try:
        of = sides(judging.forget[rows], judging.owners(rows))
        number = auc_number(ATTACKS.get("loss").score({"table": judged.take(rows)}), of)
    except Underpowered:
        return None
    retain = mean_loss(judged.take(judging.retain), judging.owners(judging.retain), confidence=confidence)
    if retain is None:
        return None
    forget = together([number], confidence=confidence)[0]
    return PlanePoint(name=model.name, role=model.role, forget=forget, retain=retain)


def _measured(judging: Judging, what: str, metric: str, by_model: Mapping[str, Estimate]) -> list[Measurement]:
    return [
        Measurement(check=NAME, model=model.name, role=model.role, what=what, metric=metric, estimate=estimate)
        for model in judging.models
        if (estimate := by_model.get(model.name)) is not None
    ]


def _of_after(judging: Judging, before: str, metric: str, changes: Mapping[str, Estimate]) -> list[Measurement]:
    after = judging.after
    return [
        Measurement(
            check=NAME,
            model=after.name,
            role=after.role,
            what=f"{before}{what}",
            metric=metric,
            estimate=change,
            chance=0.0,
        )
        for what, change in changes.items()
    ]


def _table(name: str, title: str, rows: tuple[tuple[Cell, ...], ...], *, metric: str = "") -> Table:
    first = Column(name="rows", label="Rows")
    columns = beside_columns(first, metric=metric, words=False)
    return Table(name=f"unlearning-{name}", title=title, columns=columns, rows=rows)


def _change_table(name: str, title: str, changes: Mapping[str, Estimate]) -> Table:
    columns = (Column(name="rows", label="Rows"), Column(name="change", label="Change", kind="estimate", unit=False))
    rows = tuple((Words(text=what), change) for what, change in changes.items())
    return Table(name=f"unlearning-{name}", title=title, columns=columns, rows=rows)


CHECK = check(name=NAME, title="Collateral", order=50, read=read, evaluate=evaluate)
