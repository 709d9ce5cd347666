# SPDX-License-Identifier: Apache-2.0
"""Evidence of both models → extracted shares with intervals: pure, no model and no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import ATTACKS, Attack, Scores
from reticent.attacks.extraction import ExtractionInputs
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
    randomized: bool = False
    """True where the package's own coins decided which units were trained on."""

    @property
    def has_base(self) -> bool:
        return self.base is not None and len(self.base) > 0


def evaluate(
    evidence: ExtractionEvidence, *, confidence: float, joint: float, attacks: Sequence[Attack] | None = None
) -> Extraction:
    """Every attack on every group of units, and the curves.

    Args:
        evidence: from both models.
        confidence: that all intervals of these attacks hold together.
        joint: that all intervals of the report hold together, for display.
        attacks: with their parameters; None: all of the family, at their defaults.
    """
    by_name = {attack.name: attack for attack in attacks or ATTACKS.select(family="extraction")}
    groups = {name: _groups(attack, evidence) for name, attack in by_name.items() if attack.can_run(evidence.target)}
    count = sum(
        1 + 2 * group.has_base + bool(group.control) for attack_groups in groups.values() for group in attack_groups
    )
    interval_confidence = family_confidence(confidence, max(count, 1))
    rows: list[ExtractionRow] = []
    refused: list[str] = []
    for name, attack_groups in groups.items():
        for group in attack_groups:
            try:
                rows.append(_row(by_name[name], group, attack_groups, interval_confidence, joint))
            except Underpowered as error:
                refused.append(f"{name}, {group.name}: {error}")
    return Extraction(
        rows=tuple(rows), curves=tuple(_curves(evidence)), scheme=str(SCHEME), notes=(*evidence.notes, *refused)
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


def _groups(attack: Attack, evidence: ExtractionEvidence) -> list[_Group]:
    base = evidence.base if evidence.base is not None and attack.can_run(evidence.base) else None
    if attack.unit == "generation":
        return _text_groups(attack, evidence, base)
    scores, from_base = attack.score(evidence.target), None if base is None else attack.score(base)
    if attack.unit == "record":
        cluster = _clusters([record.user for record, _ in evidence.records])
        names = [(RECORDS if member else RECORDS_CONTROL) for _, member in evidence.records]
        controls, units = {RECORDS_CONTROL}, "records"
        by_coin: set[str] = set()
    else:
        secrets = [prompt.secret for prompt in evidence.prompts.kept]
        cluster = _clusters([secret.record.user or secret.record.id for secret in secrets])
        names = [secret.group for secret in secrets]
        controls = {secret.group for secret in secrets if not secret.member}
        by_coin = {secret.group for secret in secrets} - {secret.group for secret in secrets if not secret.randomized}
        units = "secrets"
    return [
        _Group(
            name=name,
            control="" if name in controls else control_of(name, controls, randomized=name in by_coin),
            randomized=name in by_coin,
            is_control=name in controls,
            units=units,
            target=scores[mask],
            base=None if from_base is None else from_base[mask],
            cluster=None if cluster is None else cluster[mask],
        )
        for name in dict.fromkeys(names)
        if (mask := np.array([unit_group == name for unit_group in names])).any()
    ]


def _text_groups(attack: Attack, evidence: ExtractionEvidence, base: ExtractionInputs | None) -> list[_Group]:
    groups = []
    for name, inputs, base_inputs in (
        (TEXTS, evidence.target, base),
        (TEXTS_CONTROL, evidence.chance, evidence.chance_base),
    ):
        scores = attack.score(inputs)
        from_base = (
            attack.score(base_inputs) if base_inputs is not None and base_inputs.has("free_generations") else None
        )
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


def _row(attack: Attack, group: _Group, groups: Sequence[_Group], confidence: float, joint: float) -> ExtractionRow:
    def jointly(estimate: Estimate) -> Estimate:
        return replace(estimate, joint=joint)

    control = next((other for other in groups if other.name == group.control), None)
    base = group.base if group.has_base else None
    if base is None:
        gap = None
    elif group.paired:
        gap = paired_difference(group.target, base, group.cluster, confidence=confidence)
    else:
        gap = difference(group.target, base, confidence=confidence)
    return ExtractionRow(
        attack=attack.name,
        family="extraction",
        group=group.name,
        metric="share" if attack.returns == "hit" else "mean",
        target=jointly(share(group.target, group.cluster, confidence=confidence)),
        base=None
        if base is None
        else jointly(share(base, group.cluster if group.paired else None, confidence=confidence)),
        difference=None if gap is None else jointly(gap),
        n=len(group.target),
        access=attack.access,
        summary=attack.described,
        units=group.units,
        control=group.is_control,
        partial=attack.partial,
        above_control=None if control is None else jointly(_above(group, control, confidence)),
        control_group=group.control,
        randomized=group.randomized,
    )


def _above(group: _Group, control: _Group, confidence: float) -> Estimate:
    """The group minus its control: other units, or for free texts the same texts held against other records."""
    if not group.paired and len(group.target) == len(control.target):
        return paired_difference(group.target, control.target, confidence=confidence)
    return difference(group.target, control.target, group.cluster, control.cluster, confidence=confidence)


def _curves(evidence: ExtractionEvidence) -> list[ExtractionCurve]:
    if evidence.target.forced is None:
        return []
    secrets = [prompt.secret for prompt in evidence.prompts.kept]
    needed = queries_needed(evidence.target.forced.log_chance, P)
    forced = None if evidence.base is None else evidence.base.forced
    from_base = None if forced is None else queries_needed(forced.log_chance, P)
    groups = list(dict.fromkeys(secret.group for secret in secrets))
    masks = {name: np.array([secret.group == name for secret in secrets]) for name in groups}
    return [
        ExtractionCurve(
            group=name,
            control=not any(secret.member for secret in secrets if secret.group == name),
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
