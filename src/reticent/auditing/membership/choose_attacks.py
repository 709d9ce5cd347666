# SPDX-License-Identifier: Apache-2.0
"""Choice of the attacks that run: asked for, and with evidence that can be had; others are named with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reticent.attacks.attack import ATTACKS, Attack
from reticent.attacks.evidence import ATTACK_FAMILIES
from reticent.attacks.selection import Given, read_selection
from reticent.auditing.membership.level import AttackScores
from reticent.core.results import AttackRun

CHEAP_VARIANTS = ("plain", "lowercase")
"""Renderings that the standard choice scores: the text as it is and once in lower case."""

ON_OTHERS = ("scores", "whitebox")
"""Families of attacks that read what others gave, or the inside of the model."""
BY_THE_AUDIT = {"combination", "discrepancy", "whitebox_auditor", "hidden_auditor", "loss_auditor"}
"""Attacks of those families that the audit runs by procedures of its own, with controls and halves."""


WITHOUT = {
    "reference": "no reference model; give --reference (the base that was fine-tuned)",
    "users": "no users on both sides; give --user_field and split by user (--split_unit user)",
    "population": "no known non-members to compare with; split with known_fraction > 0, or give more held-out records",
    "known_held_out": "no known non-members; split with known_fraction > 0, or give more held-out records",
    "known_members": "no known members; split with known_fraction > 0, or give more members",
    "shadows": "no shadow models; --shadow 8 trains 8 more models like this run, and scores the records with each",
}
"""Need of an attack that may be missing → why, and how to get it."""


@dataclass(frozen=True, kw_only=True)
class AvailableEvidence:
    """Evidence that can be had."""

    reference: bool
    users: bool
    population: int
    known_held_out: int
    known_members: int
    shadows: int = 0


@dataclass(frozen=True, kw_only=True)
class AttackChoice:
    """The attacks to run, and those switched off with the reason by name.

    Args:
        run: membership attacks, with their parameters.
        off: name → why it does not run, and what would switch it on.
        members: all membership attacks, whether they run or not.
        elsewhere: attacks of other families whose parameters were set.
        on_others: attacks on scores or internals that are run as they are registered.
    """

    run: tuple[Attack, ...]
    off: dict[str, str]
    members: tuple[Attack, ...] = ()
    elsewhere: tuple[Attack, ...] = ()
    on_others: tuple[Attack, ...] = ()


def choose(attacks: Given, available: AvailableEvidence) -> AttackChoice:
    """Pick the membership attacks that are asked for and can run (`reticent.attacks.selection`).

    Raises:
        BadInput: an unknown name (the nearest is suggested), or a parameter that cannot be.
    """
    selection = read_selection(attacks)
    asked = selection.chosen(standard())
    members = selection.of_family("membership")
    run: list[Attack] = []
    off: dict[str, str] = {}
    for attack in members:
        reason = "" if attack.name in asked else _not_asked(attack)
        reason = reason or _impossible(attack, available)
        if reason:
            off[attack.name] = reason
        else:
            run.append(attack)
    others = (selection.configured(ATTACKS.get(name)) for name in sorted(selection.named))
    elsewhere = tuple(attack for attack in others if attack.family != "membership" and attack.changed)
    on_others = tuple(
        attack
        for family in ON_OTHERS
        for attack in selection.of_family(family)
        if attack.name not in BY_THE_AUDIT and (not attack.by_name or attack.name in selection.named)
    )
    return AttackChoice(members=members, run=tuple(run), off=off, elsewhere=elsewhere, on_others=on_others)


def listed(
    choice: AttackChoice, notes: Mapping[str, tuple[str, ...]], scored: Sequence[AttackScores]
) -> tuple[AttackRun, ...]:
    """The table of attacks for the report: membership attacks, run or not, what was made of their scores, and attacks
    of other families whose parameters were set."""
    registered = tuple(
        AttackRun(
            name=attack.name,
            level=attack.unit,
            access=attack.access,
            paper=attack.paper.id,
            summary=attack.described,
            ran=attack.name not in choice.off,
            why_not=choice.off.get(attack.name, ""),
            params=_plain(attack.params),
            notes=notes.get(attack.name, ()),
        )
        for attack in choice.members
    )
    elsewhere = tuple(
        AttackRun(
            name=attack.name,
            level=attack.unit,
            access=attack.access,
            paper=attack.paper.id,
            summary=attack.described,
            ran=True,
            params=_plain(attack.params),
            notes=(f"run by --{ATTACK_FAMILIES[attack.family].switch}, where its numbers stand",),
        )
        for attack in choice.elsewhere
        if attack not in choice.on_others
    )
    names = {attack.name for attack in choice.members}
    params = {attack.name: _plain(attack.params) for attack in choice.on_others}
    derived = tuple(
        AttackRun(
            name=finding.name,
            level=finding.level,
            access=finding.threat.access,
            paper=finding.paper,
            summary=finding.summary,
            ran=True,
            params=params.get(finding.name, {}),
            notes=finding.notes,
        )
        for finding in scored
        if finding.name not in names and finding.level != "canary"
    )
    return registered + derived + elsewhere


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as they are read back from a file."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()}


def asked_for(attacks: Given) -> set[str]:
    """Names of the membership attacks that are asked for, as in `choose`."""
    return read_selection(attacks).chosen(standard())


def standard() -> set[str]:
    """Names of the membership attacks that need no pass, and no text, beyond what every audit has."""
    members = ATTACKS.select(family="membership")
    return {attack.name for attack in members if not (_extra_variants(attack) or attack.writes or attack.by_name)}


def _extra_variants(attack: Attack) -> dict[str, int]:
    """Variants beyond the standard ones that the attack asks for, with the passes that each costs."""
    variants = (request.variant for request in attack.requests)
    return {variant.name: variant.copies for variant in variants if variant.name not in CHEAP_VARIANTS}


def cost(attack: Attack) -> str:
    """Cost beyond the standard choice, and why that leaves the attack out; empty where it does not.

    Shadow models are asked for by a flag of their own, with which the standard choice has all that reads them."""
    if attack.family != "membership":
        return ""
    extra = _extra_variants(attack)
    reasons = [
        f"needs {sum(extra.values())} more scoring pass(es) ({', '.join(extra)})" if extra else "",
        "lets both models write about every record: minutes on a CPU for some hundreds" if attack.writes else "",
        attack.by_name,
    ]
    return "; ".join(reason for reason in reasons if reason)


def _not_asked(attack: Attack) -> str:
    reason = cost(attack)
    if attack.lacks:
        return _ungiven(attack)
    if not reason:
        return f"not asked for; add {attack.name} to --attacks"
    return f"{reason}; run with --attacks all or --attacks {attack.name}"


def _impossible(attack: Attack, available: AvailableEvidence) -> str:
    """Why the attack cannot run with what there is; empty if it can."""
    missing = [reason for need, reason in WITHOUT.items() if need in attack.requires and not getattr(available, need)]
    if attack.lacks:
        missing.append(_ungiven(attack))
    return "; ".join(missing)


def _ungiven(attack: Attack) -> str:
    """The files that an attack lacks, and how they are given."""
    settings = ", ".join(f"{item.name}=FILE" for item in attack.lacks)
    content = " and ".join(item.content for item in attack.lacks)
    return f'no {content} given; --attacks "{attack.name}({settings})"'
