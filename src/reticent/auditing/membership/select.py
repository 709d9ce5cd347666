# SPDX-License-Identifier: Apache-2.0
"""Which attacks run: those that were asked for and whose evidence can be had; the others are named with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reticent.attacks.attack import ATTACKS, Attack
from reticent.auditing.membership.level import AttackScores
from reticent.core.results import AttackRun

CHEAP_VARIANTS = ("plain", "lowercase")
"""What the standard choice scores: the text as it is and once in lower case."""


WITHOUT = {
    "reference": "no reference model; give --reference (the base that was fine-tuned)",
    "users": "no users on both sides; give --user_field and split by user (--split_unit user)",
    "population": "no known non-members to compare with; split with known_fraction > 0, or give more held-out records",
    "known_held_out": "no known non-members; split with known_fraction > 0, or give more held-out records",
    "known_members": "no known members; split with known_fraction > 0, or give more members",
    "shadows": "no shadow models; --shadow 8 trains 8 more models like this run, and scores the records with each",
}
"""What an attack may lack, and what would switch it on."""


@dataclass(frozen=True, kw_only=True)
class AvailableEvidence:
    """What there is to attack with."""

    reference: bool
    users: bool
    population: int
    known_held_out: int
    known_members: int
    shadows: int = 0


@dataclass(frozen=True, kw_only=True)
class AttackChoice:
    """The attacks to run, and those switched off with the reason by name."""

    run: tuple[Attack, ...]
    off: dict[str, str]


def choose(names: str, available: AvailableEvidence) -> AttackChoice:
    """Pick attacks by ``names``: ``"standard"``, ``"all"``, or names separated by commas.

    Raises:
        BadInput: an unknown name (the nearest is suggested).
    """
    asked = asked_for(names)
    run: list[Attack] = []
    off: dict[str, str] = {}
    for attack in ATTACKS:
        reason = "" if attack.name in asked else _not_asked(attack)
        reason = reason or _impossible(attack, available)
        if reason:
            off[attack.name] = reason
        else:
            run.append(attack)
    return AttackChoice(run=tuple(run), off=off)


def listed(
    choice: AttackChoice, notes: Mapping[str, tuple[str, ...]], scored: Sequence[AttackScores]
) -> tuple[AttackRun, ...]:
    """The table of attacks for the report: the registry, run or not, and what was made of their scores."""
    registered = tuple(
        AttackRun(
            name=attack.name,
            level=attack.level,
            access=attack.access,
            paper=attack.paper,
            summary=attack.summary,
            ran=attack.name not in choice.off,
            why_not=choice.off.get(attack.name, ""),
            params=dict(attack.defaults),
            notes=notes.get(attack.name, ()),
        )
        for attack in ATTACKS
    )
    derived = tuple(
        AttackRun(
            name=one.name,
            level=one.level,
            access=one.threat.access,
            paper=one.paper,
            summary=one.summary,
            ran=True,
            notes=one.notes,
        )
        for one in scored
        if one.name not in ATTACKS and one.level != "canary"
    )
    return registered + derived


def asked_for(names: str) -> set[str]:
    """The attacks that ``names`` means, as in `choose`."""
    if names == "all":
        return set(ATTACKS.names())
    if names == "standard":
        return {attack.name for attack in ATTACKS if not (_extra_variants(attack) or attack.writes or attack.by_name)}
    return {ATTACKS.get(name.strip()).name for name in names.split(",") if name.strip()}


def _extra_variants(attack: Attack) -> dict[str, int]:
    """Variants beyond the standard ones that the attack asks for, with the passes that each costs."""
    variants = (request.variant for request in attack.requests)
    return {variant.name: variant.copies for variant in variants if variant.name not in CHEAP_VARIANTS}


def cost(attack: Attack) -> str:
    """What the attack asks for beyond the standard choice, and why that leaves it out; empty where it does not.

    Shadow models are asked for by a flag of their own, with which the standard choice has all that reads them."""
    extra = _extra_variants(attack)
    reasons = [
        f"needs {sum(extra.values())} more scoring pass(es) ({', '.join(extra)})" if extra else "",
        "lets both models write about every record: minutes on a CPU for some hundreds" if attack.writes else "",
        attack.by_name,
    ]
    return "; ".join(reason for reason in reasons if reason)


def _not_asked(attack: Attack) -> str:
    reason = cost(attack)
    if not reason:
        return f"not asked for; add {attack.name} to --attacks"
    return f"{reason}; run with --attacks all or --attacks {attack.name}"


def _impossible(attack: Attack, available: AvailableEvidence) -> str:
    """Why the attack cannot run with what there is; empty if it can."""
    missing = [why for need, why in WITHOUT.items() if need in attack.requires and not getattr(available, need)]
    return "; ".join(missing)
