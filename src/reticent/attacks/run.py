# SPDX-License-Identifier: Apache-2.0
"""Run attacks on records: token tables are read once, a few thousand rows at a time, and fed to all attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import Attack, Scores
from reticent.attacks.continuations import Continuations
from reticent.attacks.evidence import POPULATION
from reticent.attacks.shadow_models import ShadowScores
from reticent.attacks.stream import aligned, population, record_count
from reticent.core.errors import BadInput
from reticent.core.progress import progress
from reticent.core.table import TokenTable


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackOutcome:
    """Scores of attacks on ``N`` records.

    Args:
        scores: for each attack ``[N]`` float64 in the order of the records, higher = member; NaN for records without
            a trained token, which nothing can be said about.
        notes: for each attack the special cases that it hit, with the number of rows.
    """

    scores: dict[str, Scores] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def run_attack(attack: Attack, sources: Mapping[str, Path]) -> Scores:
    """Scores of one attack, ``[N]``, as ``run_attacks`` gives them."""
    return run_attacks([attack], sources).scores[attack.name]


def run_attacks(attacks: Sequence[Attack], sources: Mapping[str, Path]) -> AttackOutcome:
    """Read every table once, a few thousand rows at a time, and feed them to all attacks.

    Args:
        attacks: what to run.
        sources: for every evidence name the Parquet file that was scored for it. Only the columns that are needed are
            read, and only ``known`` and ``known_ref`` are held in memory as a whole.

    Raises:
        BadInput: evidence is missing, the tables are of different records or tokens, or an attack gave no number.
    """
    needed = _columns(attacks, sources)
    copies = {name: count for attack in attacks for name, count in attack.copies.items()}
    if not copies:
        return AttackOutcome()
    paths = {name: sources[name] for name in copies}
    count = record_count(paths, copies)
    population_tables = population({name: sources[name] for name in POPULATION if name in needed}, needed)
    scores = {attack.name: np.full(count, np.nan) for attack in attacks}
    cases: dict[str, dict[str, int]] = {attack.name: {} for attack in attacks}
    start = 0
    with progress("Running attacks", count, unit="records") as advance:
        for tables in aligned(paths, needed, copies):
            size = len(next(iter(tables.values()))) // next(iter(copies.values()))
            for attack in attacks:
                scorable, evidence = _scorable(attack, tables)
                if scorable.any():
                    evidence |= population_tables
                    scores[attack.name][start : start + size][scorable] = attack.score(evidence)
                    _count(cases[attack.name], attack, evidence)
            start += size
            advance(size)
    return AttackOutcome(scores=scores, notes={name: _notes(rows, count) for name, rows in cases.items()})


def run_whole(attacks: Sequence[Attack], evidence: Mapping[str, Continuations | ShadowScores]) -> AttackOutcome:
    """As `run_attacks`, for attacks that read what models wrote, or shadow models. Every record gets a number.

    Args:
        attacks: what to run.
        evidence: by name, of the same records in the same order.
    """
    scores = {attack.name: attack.score(evidence) for attack in attacks}
    cases: dict[str, dict[str, int]] = {attack.name: {} for attack in attacks}
    for attack in attacks:
        _count(cases[attack.name], attack, evidence)
    return AttackOutcome(scores=scores, notes={name: _notes(rows, len(scores[name])) for name, rows in cases.items()})


def _notes(cases: Mapping[str, int], count: int) -> tuple[str, ...]:
    return tuple(f"{what}: {n:,} of {count:,} rows" for what, n in cases.items())


def _columns(attacks: Sequence[Attack], sources: Mapping[str, Path]) -> dict[str, set[str]]:
    """The token columns to read from each table."""
    needed: dict[str, set[str]] = {}
    for attack in attacks:
        for name in attack.evidence:
            if name not in sources:
                raise BadInput(
                    f"attack {attack.name!r}", f"needs the table {name!r}", "Score it or leave the attack out."
                )
            needed.setdefault(name, {"loss_mask"}).update(attack.needs)
    return needed


def _scorable(attack: Attack, tables: Mapping[str, TokenTable]) -> tuple[npt.NDArray[np.bool_], dict[str, TokenTable]]:
    """The records that have a trained token in every table that the attack reads, and the tables of those."""
    full = [(tables[name].lengths > 0).reshape(-1, attack.copies[name]).all(axis=1) for name in attack.streamed]
    scorable = np.logical_and.reduce(full)
    chosen = {name: tables[name] for name in attack.streamed}
    if not scorable.all():
        chosen = {name: table.take(np.repeat(scorable, attack.copies[name])) for name, table in chosen.items()}
    return scorable, chosen


def _count(cases: dict[str, int], attack: Attack, evidence: Mapping[str, Any]) -> None:
    if attack.edge_cases is not None:
        counted = attack.edge_cases(*(evidence[name] for name in attack.evidence), **attack.params)
        for what, rows in counted.items():
            if rows:
                cases[what] = cases.get(what, 0) + int(rows)
