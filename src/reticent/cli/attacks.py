# SPDX-License-Identifier: Apache-2.0
"""`reticent attacks`: every attack with its parameters, and what each needs."""

from __future__ import annotations

import inspect
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reticent.attacks.attack import Attack

WIDTH = 100


def attacks(name: str | None = None) -> int:
    """List all attacks by what they attack, with their parameters and what each needs, or show one.

    Args:
        name: of one attack, to read all that there is to say of it.
    """
    from reticent.attacks.attack import ATTACKS
    from reticent.attacks.evidence import UNITS

    if name is not None:
        _show(ATTACKS.get(name))
        return 0
    for unit, about in UNITS.items():
        chosen = ATTACKS.select(unit=unit)
        print(f"{unit.upper()}S ({about}): {len(chosen)}\n")
        for attack in chosen:
            print("\n".join(_lines(attack)), end="\n\n")
    print('Parameters are set by --attacks "NAME(PARAMETER=VALUE)"; reticent attacks NAME says more of one.')
    return 0


def _lines(attack: Attack) -> list[str]:
    """An attack in a few lines."""
    from reticent.attacks.parameter import shown
    from reticent.auditing.membership.choose_attacks import cost

    settings = ", ".join(f"{key}={shown(parameter.default)}" for key, parameter in attack.parameters.items())
    wide = f"{attack.name}({settings})" if settings else attack.name
    lines = [
        f"{wide}  gives a {attack.returns}; sees {attack.access}; {attack.paper}",
        *textwrap.wrap(attack.summary, WIDTH, initial_indent="    ", subsequent_indent="    "),
        f"    reads: {', '.join(attack.evidence)}",
    ]
    extra = cost(attack)
    way = "only by name" if attack.lacks else "only by name or with --attacks all"
    by_name = f"{way}: {extra}" if extra else ""
    return lines + [f"    {line}" for line in (_switch(attack), by_name) if line]


def _switch(attack: Attack) -> str:
    """How an audit comes to run it, where not every audit does."""
    from reticent.attacks.evidence import ATTACK_FAMILIES

    if attack.shadowed:
        return "only with --shadow K: trains K more models, and scores the records with each"
    switch = ATTACK_FAMILIES[attack.family].switch
    if attack.family == "scores":
        return "in every audit with two record attacks that run: learned from their scores"
    return f"in audits with --{switch}" if switch else ""


def _show(attack: Attack) -> None:
    from reticent.attacks.evidence import EVIDENCE, RETURNS, UNITS
    from reticent.attacks.parameter import shown
    from reticent.auditing.membership.choose_attacks import WITHOUT

    print("\n".join(_lines(attack)))
    print(f"    about: {UNITS[attack.unit]}\n    returns: {RETURNS[attack.returns]}\n    paper: {attack.paper.url}\n")
    print(textwrap.indent(inspect.getdoc(attack.function) or "", "    "), end="\n\n")
    for key, parameter in attack.parameters.items():
        print(f"    {key}: {parameter.words}; default {shown(parameter.default)}")
    for item in attack.evidence:
        about = EVIDENCE[item].about if item in EVIDENCE else "a rendering of the text, scored by a model"
        print(f"    {item}: {about}")
    for need in sorted(attack.requires):
        print(f"    without it: {WITHOUT[need]}")
