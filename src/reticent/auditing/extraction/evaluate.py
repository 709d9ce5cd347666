# SPDX-License-Identifier: Apache-2.0
"""From what both models gave to shares with intervals: pure, no model and no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reticent.attacks.extraction import EXTRACTIONS, ExtractionAttack, ExtractionInputs
from reticent.attacks.extraction.attack import Scores
from reticent.attacks.extraction.probabilistic_np import queries_needed
from reticent.auditing.extraction.collect import SCHEME, ExtractionEvidence
from reticent.auditing.extraction.secrets import control_of
from reticent.auditing.verdict import severity
from reticent.core.errors import Underpowered
from reticent.core.finding import Estimate, Finding, ThreatModel
from reticent.core.results import Extraction, ExtractionCurve, ExtractionRow
from reticent.report.sentences import pulled_out
from reticent.stats.hypothesis import family_confidence
from reticent.stats.proportions import difference, paired_difference, share

RECORDS, RECORDS_CONTROL = "whole records", "whole records, held out (control)"
TEXTS, TEXTS_CONTROL = "free texts that copy a trained record", "free texts that copy a held-out record (control)"
P = 0.5
QUERIES = tuple(float(round(10 ** (step / 4))) for step in range(25))
"""From 1 to a million, four a decade."""
ADVICE = (
    "Do not ship this model. Remove or mask what came out and retrain, drop repeated records, or train with "
    "differential privacy (reticent tune --epsilon)."
)
THREAT = ("the text before the secret",)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Group:
    """Units of one attack that are reported together."""

    name: str
    control: str
    """The group that shows what comes out by chance; empty for such a group itself or where there is none."""
    is_control: bool
    units: str
    target: Scores
    base: Scores | None
    cluster: npt.NDArray[np.str_] | None
    paired: bool = True

    @property
    def has_base(self) -> bool:
        return self.base is not None and len(self.base) > 0


def evaluate(pulled: ExtractionEvidence, *, confidence: float, joint: float) -> Extraction:
    """Every attack on every group of units, and the curves.

    Args:
        pulled: what both models gave.
        confidence: that all intervals of these attacks hold together.
        joint: that all intervals of the report hold together, for display.
    """
    groups = {attack.name: _groups(attack, pulled) for attack in EXTRACTIONS if attack.can_run(pulled.target)}
    count = sum(1 + 2 * group.has_base + bool(group.control) for found in groups.values() for group in found)
    each = family_confidence(confidence, max(count, 1))
    rows: list[ExtractionRow] = []
    refused: list[str] = []
    for name, found in groups.items():
        for group in found:
            try:
                rows.append(_row(EXTRACTIONS.get(name), group, found, each, joint))
            except Underpowered as error:
                refused.append(f"{name}, {group.name}: {error}")
    return Extraction(
        rows=tuple(rows), curves=tuple(_curves(pulled)), scheme=str(SCHEME), notes=(*pulled.notes, *refused)
    )


def extraction_findings(extraction: Extraction, family: str, *, confounded: bool) -> list[Finding]:
    """One finding of a family of rows: the row that leaks with the most certainty, or the largest where none leaks.

    On a confounded split groups of trained and held-out records say nothing about training; planted secrets do.
    """
    row = extraction.strongest(family, only_planted=confounded)
    return [] if row is None else [_finding(row)]


def _finding(row: ExtractionRow) -> Finding:
    compared = row.compared
    assert compared is not None
    return Finding(
        attack=row.attack,
        level="passage",
        metric="extracted",
        estimate=compared,
        severity=severity("extracted", compared.lo if row.leaks else 0.0),
        threat=ThreatModel(access=row.access, needs=THREAT if row.units == "secrets" else ()),
        statement=pulled_out(row),
        advice=ADVICE if row.leaks else "",
        notes=row.notes,
    )


# ---- groups -----------------------------------------------------------------------------------------------------


def _groups(attack: ExtractionAttack, pulled: ExtractionEvidence) -> list[_Group]:
    base = pulled.base if pulled.base is not None and attack.can_run(pulled.base) else None
    if attack.unit == "generation":
        return _text_groups(attack, pulled, base)
    scores, from_base = attack.score(pulled.target), None if base is None else attack.score(base)
    if attack.unit == "record":
        cluster = _clusters([record.user for record, _ in pulled.records])
        names = [(RECORDS if member else RECORDS_CONTROL) for _, member in pulled.records]
        controls, units = {RECORDS_CONTROL}, "records"
    else:
        targets = [one.target for one in pulled.passages.kept]
        cluster = _clusters([one.record.user or one.record.id for one in targets])
        names = [one.group for one in targets]
        controls = {one.group for one in targets if not one.member}
        units = "secrets"
    return [
        _Group(
            name=name,
            control="" if name in controls else control_of(name, controls),
            is_control=name in controls,
            units=units,
            target=scores[mask],
            base=None if from_base is None else from_base[mask],
            cluster=None if cluster is None else cluster[mask],
        )
        for name in dict.fromkeys(names)
        if (mask := np.array([one == name for one in names])).any()
    ]


def _text_groups(attack: ExtractionAttack, pulled: ExtractionEvidence, base: ExtractionInputs | None) -> list[_Group]:
    groups = []
    for name, mine, theirs in ((TEXTS, pulled.target, base), (TEXTS_CONTROL, pulled.chance, pulled.chance_base)):
        scores = attack.score(mine)
        from_base = attack.score(theirs) if theirs is not None and theirs.has("drawn") else None
        groups.append(
            _Group(
                name=name,
                control=TEXTS_CONTROL if name == TEXTS else "",
                is_control=name == TEXTS_CONTROL,
                units="texts",
                target=scores[~np.isnan(scores)],
                base=None if from_base is None else from_base[~np.isnan(from_base)],
                cluster=None,
                paired=False,
            )
        )
    return groups


def _clusters(users: Sequence[str | None]) -> npt.NDArray[np.str_] | None:
    """Users where all units have one."""
    return None if any(user is None for user in users) else np.array(users, dtype=np.str_)


def _row(
    attack: ExtractionAttack, group: _Group, among: Sequence[_Group], confidence: float, joint: float
) -> ExtractionRow:
    def said(estimate: Estimate) -> Estimate:
        return replace(estimate, joint=joint)

    control = next((one for one in among if one.name == group.control), None)
    base = group.base if group.has_base else None
    if base is None:
        apart = None
    elif group.paired:
        apart = paired_difference(group.target, base, group.cluster, confidence=confidence)
    else:
        apart = difference(group.target, base, confidence=confidence)
    return ExtractionRow(
        attack=attack.name,
        family="extraction",
        group=group.name,
        metric=attack.metric,
        target=said(share(group.target, group.cluster, confidence=confidence)),
        base=None
        if base is None
        else said(share(base, group.cluster if group.paired else None, confidence=confidence)),
        difference=None if apart is None else said(apart),
        n=len(group.target),
        access=attack.access,
        summary=attack.summary,
        units=group.units,
        control=group.is_control,
        partial=attack.partial,
        above_control=None if control is None else said(_above(group, control, confidence)),
    )


def _above(group: _Group, control: _Group, confidence: float) -> Estimate:
    """The group minus its control: other units, or for free texts the same texts held against other records."""
    if not group.paired and len(group.target) == len(control.target):
        return paired_difference(group.target, control.target, confidence=confidence)
    return difference(group.target, control.target, group.cluster, control.cluster, confidence=confidence)


def _curves(pulled: ExtractionEvidence) -> list[ExtractionCurve]:
    if pulled.target.forced is None:
        return []
    targets = [one.target for one in pulled.passages.kept]
    needed = queries_needed(pulled.target.forced.log_chance, P)
    forced = None if pulled.base is None else pulled.base.forced
    from_base = None if forced is None else queries_needed(forced.log_chance, P)
    groups = list(dict.fromkeys(one.group for one in targets))
    masks = {name: np.array([one.group == name for one in targets]) for name in groups}
    return [
        ExtractionCurve(
            group=name,
            control=not any(one.member for one in targets if one.group == name),
            p=P,
            queries=QUERIES,
            target=_rising(needed[mask]),
            base=() if from_base is None else _rising(from_base[mask]),
            n=int(mask.sum()),
        )
        for name, mask in masks.items()
    ]


def _rising(needed: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float((needed <= queries).mean()) for queries in QUERIES)
