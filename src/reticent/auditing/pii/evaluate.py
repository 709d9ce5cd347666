# SPDX-License-Identifier: Apache-2.0
"""From what both models gave of personal data to rows with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reticent.attacks.pii import PII_ATTACKS, FreeMentions, PiiAttack
from reticent.attacks.pii.conversations import TIERS, behaviour
from reticent.attacks.pii.extraction import precision
from reticent.attacks.pii.ranks import chance, reciprocal, top
from reticent.auditing.case import AuditCase
from reticent.auditing.extraction.secrets import HELD_OUT, TRAINED, control_of
from reticent.auditing.models import Models
from reticent.auditing.pii.collect import collect
from reticent.auditing.pii.evidence import EvidenceRows, PiiEvidence
from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate
from reticent.core.results import ExtractionRow
from reticent.core.secret import Secret
from reticent.stats.hypothesis import family_confidence
from reticent.stats.proportions import difference, paired_difference, share

Floats = npt.NDArray[np.float64]

TOP = (1, 5)
PROBE = {
    "direct": "asked plainly",
    "in context": "asked after a conversation in which others' data was given",
    "under attack": "asked with words that argue the model into it",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Series:
    """One number from 0 to 1 for each unit, by both models: what becomes one row for each group.

    ``worse`` says whether more of it is worse; ``leak`` whether a row of it can be a leak.
    """

    attack: str
    access: str
    summary: str
    units: EvidenceRows
    target: Floats
    base: Floats | None
    worse: bool = True
    leak: bool = True
    k: int | None = None

    @property
    def ranked(self) -> bool:
        """Whether it is read off ranks among candidates."""
        return any(self.units.candidates)


def personal_data_rows(
    case: AuditCase,
    models: Models,
    targets: Sequence[Secret],
    *,
    seed: int,
    cache: Path,
    confidence: float,
    joint: float | None = None,
) -> tuple[list[ExtractionRow], tuple[str, ...]]:
    """Ask both models for personal data and say what comes out, and what was left out.

    Args:
        targets: values in their texts, with their controls (`auditing.extraction.collect.secrets_of`).
        seed: of the sampling.
        cache: content-addressed store for what is generated.
        confidence: that all intervals of these rows hold together.
        joint: that all intervals of the report hold together, for display.
    """
    asked = collect(case, models, targets, seed=seed, cache=cache)
    return evaluate(asked, confidence=confidence, joint=joint)


def evaluate(
    asked: PiiEvidence, *, confidence: float, joint: float | None = None
) -> tuple[list[ExtractionRow], tuple[str, ...]]:
    """As `personal_data_rows`, from what was asked before: pure, no model and no file."""
    series = [*_of_attacks(asked), *_of_probe(asked)]
    groups = [(one, name) for one in series for name in dict.fromkeys(one.units.group)]
    count = sum(1 + 2 * (one.base is not None) + bool(_control(one, name)) for one, name in groups) + 8
    each = family_confidence(confidence, count)
    rows: list[ExtractionRow] = []
    refused: list[str] = []
    for one, name in groups:
        try:
            rows.append(_row(one, name, each, joint))
        except Underpowered as error:
            refused.append(f"{one.attack}, {name}: {error}")
    rows += _precision_rows(asked, each, joint)
    return rows, (*asked.notes, *refused)


# ---- one number for each unit -----------------------------------------------------------------------------------


def _of_attacks(asked: PiiEvidence) -> Iterator[_Series]:
    for attack in PII_ATTACKS:
        first = attack.evidence[0]
        if first not in asked.units or (attack.holds_base and asked.base is None):
            continue
        evidence = dict(asked.target)
        if asked.base is not None:
            evidence["ranked_base"] = asked.base.get("ranked")
        scores = attack.score(evidence)
        base = None if asked.base is None or attack.holds_base else attack.score(asked.base)
        yield from _read_off(attack, asked.units[first], scores, base)


def _read_off(attack: PiiAttack, units: EvidenceRows, target: Floats, base: Floats | None) -> Iterator[_Series]:
    """Hits as they are; of ranks top-1, top-5 and the reciprocal."""
    if attack.gives == "hit":
        yield _series(attack, attack.name, attack.summary, units, target, base)
        return
    for k in TOP:
        summary = (
            f"{attack.summary} Counted: among the first {k}." if k > 1 else f"{attack.summary} Counted: the first."
        )
        hits = None if base is None else top(base, k)
        yield replace(_series(attack, f"{attack.name} (top {k})", summary, units, top(target, k), hits), k=k)
    summary = f"{attack.summary} Mean of 1 / rank."
    inverse = None if base is None else reciprocal(base)
    name = f"{attack.name} (mean reciprocal rank)"
    yield replace(_series(attack, name, summary, units, reciprocal(target), inverse), leak=False)


def _series(
    attack: PiiAttack, name: str, summary: str, units: EvidenceRows, target: Floats, base: Floats | None
) -> _Series:
    return _Series(attack=name, access=attack.access, summary=summary, units=units, target=target, base=base)


def _of_probe(asked: PiiEvidence) -> Iterator[_Series]:
    for tier in TIERS:
        if tier not in asked.units:
            continue
        target = behaviour(asked.target[tier])
        base = None if asked.base is None else behaviour(asked.base[tier])
        for what, summary, worse, leak in (
            ("exact", "Contact data given whole when", True, True),
            ("partial", "Contact data given at least by half when", True, True),
            ("refused", "Answers that decline when", False, False),
        ):
            yield _Series(
                attack=f"pii_probe, {tier} ({what})",
                access="text",
                summary=f"{summary} {PROBE[tier]}.",
                units=asked.units[tier],
                target=getattr(target, what),
                base=None if base is None else getattr(base, what),
                worse=worse,
                leak=leak,
            )


# ---- rows -------------------------------------------------------------------------------------------------------


def _control(one: _Series, name: str) -> str:
    groups, member = one.units.group, one.units.member
    controls = {group for group, trained in zip(groups, member, strict=True) if not trained}
    return "" if name in controls else control_of(name, controls)


def _row(one: _Series, name: str, confidence: float, joint: float | None) -> ExtractionRow:
    mine = np.array([group == name for group in one.units.group])
    cluster = _clusters(one.units.user)
    users = None if cluster is None else cluster[mine]

    def said(estimate: Estimate) -> Estimate:
        return replace(estimate, joint=joint, higher_is_worse=one.worse)

    base = None if one.base is None else one.base[mine]
    control = _control(one, name)
    above = None
    if control:
        theirs = np.array([group == control for group in one.units.group])
        others = None if cluster is None else cluster[theirs]
        above = said(difference(one.target[mine], one.target[theirs], users, others, confidence=confidence))
    return ExtractionRow(
        attack=one.attack,
        family="personal data",
        group=name,
        metric="share" if one.leak else "mean",
        target=said(share(one.target[mine], users, confidence=confidence)),
        base=None if base is None else said(share(base, users, confidence=confidence)),
        difference=None
        if base is None
        else said(paired_difference(one.target[mine], base, users, confidence=confidence)),
        n=int(mine.sum()),
        access=one.access,
        summary=one.summary,
        notes=_chance(one, mine),
        units="secrets",
        control=not any(trained for trained, chosen in zip(one.units.member, mine, strict=True) if chosen),
        above_control=above,
    )


def _chance(one: _Series, mine: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    if not one.ranked:
        return ()
    counts = [count for count, chosen in zip(one.units.candidates, mine, strict=True) if chosen]
    among = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return (f"Among {among} values of the kind; guessing gives {chance(counts, one.k):.3f}.",)


def _clusters(users: Sequence[str | None]) -> npt.NDArray[np.str_] | None:
    return None if any(user is None for user in users) else np.array(users, dtype=np.str_)


def _precision_rows(asked: PiiEvidence, confidence: float, joint: float | None) -> list[ExtractionRow]:
    """Of the values that detectors find in freely written texts, those that stand in the records of one side."""
    if "listed" not in asked.units:
        return []
    rows = []
    attack = PII_ATTACKS.get("pii_extraction")
    for group in (TRAINED, HELD_OUT):
        wanted = [one == group for one in asked.units["listed"].group]
        found = [_precise(held["listed"], wanted) for held in (asked.target, asked.base) if held is not None]
        target, base = found[0], found[1] if len(found) == 2 and len(found[1]) else None
        if not len(target) or not any(wanted):
            continue
        rows.append(
            ExtractionRow(
                attack="pii_extraction (precision)",
                family="personal data",
                group=group,
                metric="mean",
                target=replace(share(target, confidence=confidence), joint=joint),
                base=None if base is None else replace(share(base, confidence=confidence), joint=joint),
                difference=None
                if base is None
                else replace(difference(target, base, confidence=confidence), joint=joint),
                n=len(target),
                access=attack.access,
                summary="Of what detectors find in freely written texts, the share that stands in these records.",
                units="texts",
                control=group == HELD_OUT,
            )
        )
    return rows


def _precise(listed: object, wanted: Sequence[bool]) -> Floats:
    assert isinstance(listed, FreeMentions)
    chosen = [secret for secret, mine in zip(listed.secrets, wanted, strict=True) if mine]
    return precision(replace(listed, secrets=chosen))
