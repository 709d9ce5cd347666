# SPDX-License-Identifier: Apache-2.0
"""Lower bounds on ε by the synthetic text alone, beside what was promised of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from reticent.auditing.guarantee.epsilon_bounds import (
    EpsilonBound,
    RandomizedUnits,
    epsilon_bounds,
    epsilon_finding,
)
from reticent.auditing.membership.level import AttackScores, Level
from reticent.auditing.synthetic.collect import GAIN
from reticent.auditing.synthetic.synthetic_file import TextPromise
from reticent.auditing.synthetic.text_levels import PAPER, threat
from reticent.auditing.verdict import BROKEN
from reticent.core.finding import Finding, Severity
from reticent.core.membership import Membership
from reticent.core.section import Column, Table
from reticent.data.canaries import Canary

SECRETS = "synthetic_canary"
FEWEST = 10
NAMES = {"record": "records", "user": "users"}


def level_units(level: Level, membership: Membership, *, confounded: bool) -> RandomizedUnits | None:
    """The units of a level as guesses, where each had a fair coin of its own; else None."""
    fair = membership.unit == level.name and membership.probability == 0.5
    chosen = next((scored for scored in level.attacks if scored.name == GAIN), None)
    if not fair or chosen is None or not _both(level.member):
        return None
    return RandomizedUnits(
        units=f"{NAMES[level.name]}, by the synthetic text",
        level=level.name,
        unit=level.name,
        member=level.member,
        scored=chosen,
        confounded=confounded,
    )


def secret_units(canaries: Sequence[Canary], score: npt.NDArray[np.float64], *, unit: str) -> RandomizedUnits | None:
    """Planted secrets as guesses: those planted once as records, or all as made-up users; None where too few."""
    once = unit == "user" or np.array([canary.repetitions == 1 for canary in canaries], dtype=bool)
    rows = np.array([not canary.is_control and canary.probability == 0.5 for canary in canaries], dtype=bool) & once
    member = np.array([canary.planted for canary in canaries], dtype=bool)[rows]
    if not _both(member):
        return None
    scored = AttackScores(name=SECRETS, score=score[rows], threat=threat(SECRETS), level="canary", paper=PAPER)
    return RandomizedUnits(
        units="planted secrets, by the synthetic text", level="canary", unit=unit, member=member, scored=scored,
        confounded=False,
    )  # fmt: skip


def _both(member: npt.NDArray[np.bool_]) -> bool:
    return len(member) >= FEWEST and bool(member.any()) and not bool(member.all())


def text_bounds(
    randomized: Sequence[RandomizedUnits], *, delta: float, confidence: float, joint: float
) -> tuple[tuple[EpsilonBound, ...], tuple[str, ...]]:
    """The one-run bound of each kind of units, which rests on the coins alone, and what was refused.

    Args:
        randomized: kinds of units.
        delta: of the promise, where there is one.
        confidence: of all bounds together.
        joint: of the whole report.
    """
    bounds = epsilon_bounds(randomized, delta=delta, confidence=confidence, joint=joint)
    return tuple(bound for bound in bounds.found if bound.primary), bounds.refused


def bound_findings(bounds: Sequence[EpsilonBound]) -> tuple[Finding, ...]:
    """A finding for each bound."""
    return tuple(epsilon_finding(bound) for bound in bounds)


def broken(bounds: Sequence[EpsilonBound], promise: TextPromise | None) -> tuple[Finding, ...]:
    """A critical finding for each bound of the promised unit that is above what was promised."""
    findings = []
    for bound in bounds:
        if _comparable(bound, promise) and promise is not None and bound.estimate.lo > promise.epsilon:
            findings.append(
                replace(
                    epsilon_finding(bound),
                    metric=BROKEN,
                    severity=Severity.CRITICAL,
                    statement=f"A promise is broken: {promise.sentence}. The synthetic text shows "
                    f"ε ≥ {bound.estimate.lo:.2f} per {bound.randomized.unit} at that δ ({bound.randomized.units}).",
                    advice="Do not share this text and do not state this ε. The mechanism, its accounting or the coins "
                    "are faulty: report it as a bug.",
                )
            )
    return tuple(findings)


def _comparable(bound: EpsilonBound, promise: TextPromise | None) -> bool:
    return promise is not None and bound.randomized.unit == promise.unit and not bound.randomized.confounded


COLUMNS = (
    Column(name="units", label="From"),
    Column(name="unit", label="Per"),
    Column(name="bound", label="ε is at least", kind="estimate", metric="epsilon_lower"),
    Column(name="promised", label="Promised", kind="number"),
    Column(name="relation", label="Data sets differ by"),
    Column(name="delta", label="δ", kind="number"),
)


def bound_table(bounds: Sequence[EpsilonBound], promise: TextPromise | None, *, delta: float) -> Table:
    """Each bound beside the promise for its unit."""
    relation = "one unit added or removed, by its coin"
    promised = "" if promise is None else f"; the promise: {promise.relation.replace('_', ' ')}"
    rows = tuple(
        (
            bound.randomized.units,
            bound.randomized.unit,
            bound.estimate,
            promise.epsilon if promise is not None and _comparable(bound, promise) else None,
            relation + promised,
            delta,
        )
        for bound in bounds
    )
    return Table(
        name="synthetic-epsilon",
        title="Lower bounds on ε by the synthetic text, beside the promise",
        columns=COLUMNS,
        rows=rows,
        caption="A bound says how much was shown, through this one channel; it is no estimate of ε. What a model knows "
        "that was tuned on the text alone is covered by the text's promise, too.",
    )
