# SPDX-License-Identifier: Apache-2.0
"""Evidence on personal data from both models → rows with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reticent.attacks.attack import ATTACKS, Attack
from reticent.attacks.pii import FreeMentions
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
class _Measure:
    """One number from 0 to 1 for each unit, by both models. It gives one row for each group.

    Args:
        worse: True where a higher number is worse.
        leak: True where a row of it can be a leak.
        k: hits are counted among the first ``k`` ranks; None for other numbers.
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
        """True where it comes from ranks among candidates."""
        return any(self.units.candidates)


def personal_data_rows(
    case: AuditCase,
    models: Models,
    secrets: Sequence[Secret],
    *,
    seed: int,
    cache: Path,
    confidence: float,
    joint: float | None = None,
) -> tuple[list[ExtractionRow], tuple[str, ...]]:
    """Ask both models for personal data: rows of the results, and notes on values that were left out.

    Args:
        case: the data under audit.
        models: as opened.
        secrets: values in their texts, with their controls (`auditing.extraction.choose_secrets.secrets_of`).
        seed: of the sampling.
        cache: content-addressed store for what is generated.
        confidence: that all intervals of these rows hold together.
        joint: that all intervals of the report hold together, for display.
    """
    evidence = collect(case, models, secrets, seed=seed, cache=cache)
    return evaluate(evidence, confidence=confidence, joint=joint)


def evaluate(
    evidence: PiiEvidence,
    *,
    confidence: float,
    joint: float | None = None,
    attacks: Sequence[Attack] | None = None,
) -> tuple[list[ExtractionRow], tuple[str, ...]]:
    """As `personal_data_rows`, from evidence that was collected before: pure, no model and no file."""
    measures = [*_of_attacks(evidence, attacks or ATTACKS.select(family="pii")), *_of_probe(evidence)]
    groups = [(measure, name) for measure in measures for name in dict.fromkeys(measure.units.group)]
    count = sum(1 + 2 * (measure.base is not None) + bool(_control(measure, name)) for measure, name in groups) + 8
    interval_confidence = family_confidence(confidence, count)
    rows: list[ExtractionRow] = []
    refused: list[str] = []
    for measure, name in groups:
        try:
            rows.append(_row(measure, name, interval_confidence, joint))
        except Underpowered as error:
            refused.append(f"{measure.attack}, {name}: {error}")
    rows += _precision_rows(evidence, interval_confidence, joint)
    return rows, (*evidence.notes, *refused)


# ---- one number for each unit -----------------------------------------------------------------------------------


def _of_attacks(evidence: PiiEvidence, attacks: Sequence[Attack]) -> Iterator[_Measure]:
    for attack in attacks:
        first = attack.evidence[0]
        if first not in evidence.units or (attack.holds_base and evidence.base is None):
            continue
        inputs = dict(evidence.target)
        if evidence.base is not None:
            inputs["ranked_base"] = evidence.base.get("ranked")
        scores = attack.score(inputs)
        base = None if evidence.base is None or attack.holds_base else attack.score(evidence.base)
        yield from _read_off(attack, evidence.units[first], scores, base)


def _read_off(attack: Attack, units: EvidenceRows, target: Floats, base: Floats | None) -> Iterator[_Measure]:
    """Hits as they are; of ranks top-1, top-5 and the reciprocal."""
    if attack.returns == "hit":
        yield _measure(attack, attack.name, attack.described, units, target, base)
        return
    for k in TOP:
        summary = (
            f"{attack.described} Counted: among the first {k}." if k > 1 else f"{attack.described} Counted: the first."
        )
        hits = None if base is None else top(base, k)
        yield replace(_measure(attack, f"{attack.name} (top {k})", summary, units, top(target, k), hits), k=k)
    summary = f"{attack.described} Mean of 1 / rank."
    inverse = None if base is None else reciprocal(base)
    name = f"{attack.name} (mean reciprocal rank)"
    yield replace(_measure(attack, name, summary, units, reciprocal(target), inverse), leak=False)


def _measure(
    attack: Attack, name: str, summary: str, units: EvidenceRows, target: Floats, base: Floats | None
) -> _Measure:
    return _Measure(attack=name, access=attack.access, summary=summary, units=units, target=target, base=base)


def _of_probe(evidence: PiiEvidence) -> Iterator[_Measure]:
    for tier in TIERS:
        if tier not in evidence.units:
            continue
        target = behaviour(evidence.target[tier])
        base = None if evidence.base is None else behaviour(evidence.base[tier])
        for what, summary, worse, leak in (
            ("exact", "Contact data given whole when", True, True),
            ("partial", "Contact data given at least by half when", True, True),
            ("refused", "Answers that decline when", False, False),
        ):
            yield _Measure(
                attack=f"pii_probe, {tier} ({what})",
                access="text",
                summary=f"{summary} {PROBE[tier]}.",
                units=evidence.units[tier],
                target=getattr(target, what),
                base=None if base is None else getattr(base, what),
                worse=worse,
                leak=leak,
            )


# ---- rows -------------------------------------------------------------------------------------------------------


def _control(measure: _Measure, name: str) -> str:
    groups, member = measure.units.group, measure.units.member
    controls = {group for group, trained in zip(groups, member, strict=True) if not trained}
    return "" if name in controls else control_of(name, controls, randomized=measure.units.by_coin(name))


def _row(measure: _Measure, name: str, confidence: float, joint: float | None) -> ExtractionRow:
    mask = np.array([group == name for group in measure.units.group])
    cluster = _clusters(measure.units.user)
    users = None if cluster is None else cluster[mask]

    def stated(estimate: Estimate) -> Estimate:
        return replace(estimate, joint=joint, higher_is_worse=measure.worse)

    base = None if measure.base is None else measure.base[mask]
    control = _control(measure, name)
    above = None
    if control:
        control_mask = np.array([group == control for group in measure.units.group])
        others = None if cluster is None else cluster[control_mask]
        above = stated(
            difference(measure.target[mask], measure.target[control_mask], users, others, confidence=confidence)
        )
    return ExtractionRow(
        attack=measure.attack,
        family="personal data",
        group=name,
        metric="share" if measure.leak else "mean",
        target=stated(share(measure.target[mask], users, confidence=confidence)),
        base=None if base is None else stated(share(base, users, confidence=confidence)),
        difference=None
        if base is None
        else stated(paired_difference(measure.target[mask], base, users, confidence=confidence)),
        n=int(mask.sum()),
        access=measure.access,
        summary=measure.summary,
        notes=_chance(measure, mask),
        units="secrets",
        control=not any(trained for trained, chosen in zip(measure.units.member, mask, strict=True) if chosen),
        above_control=above,
        control_group=control,
        randomized=measure.units.by_coin(name),
    )


def _chance(measure: _Measure, mask: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    if not measure.ranked:
        return ()
    counts = [count for count, chosen in zip(measure.units.candidates, mask, strict=True) if chosen]
    among = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return (f"Among {among} values of the kind; guessing gives {chance(counts, measure.k):.3f}.",)


def _clusters(users: Sequence[str | None]) -> npt.NDArray[np.str_] | None:
    return None if any(user is None for user in users) else np.array(users, dtype=np.str_)


def _precision_rows(evidence: PiiEvidence, confidence: float, joint: float | None) -> list[ExtractionRow]:
    """Of the values that detectors find in freely written texts, those that stand in the records of one side."""
    if "listed" not in evidence.units:
        return []
    rows = []
    attack = ATTACKS.get("pii_extraction")
    for group in (TRAINED, HELD_OUT):
        mask = [unit_group == group for unit_group in evidence.units["listed"].group]
        precisions = [
            _precise(pieces["listed"], mask) for pieces in (evidence.target, evidence.base) if pieces is not None
        ]
        target, base = precisions[0], precisions[1] if len(precisions) == 2 and len(precisions[1]) else None
        if not len(target) or not any(mask):
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


def _precise(listed: object, mask: Sequence[bool]) -> Floats:
    assert isinstance(listed, FreeMentions)
    chosen = [secret for secret, in_group in zip(listed.secrets, mask, strict=True) if in_group]
    return precision(replace(listed, secrets=chosen))
