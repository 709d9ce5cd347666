# SPDX-License-Identifier: Apache-2.0
"""`reticent attacks`: what can be run, and what each needs."""

from __future__ import annotations


def attacks() -> int:
    """List the attacks with the level they work at, the access an attacker needs, the tables they read, the paper, and
    what keeps an attack out of the standard choice."""
    from reticent.attacks.attack import ATTACKS
    from reticent.auditing.membership.select import cost

    for attack in ATTACKS:
        print(f"{attack.name}  ({attack.level} level; sees {attack.access}; {attack.paper})")
        print(f"    {attack.summary}")
        print(f"    reads: {', '.join(attack.evidence)}")
        if attack.shadowed:
            print("    only with --shadow K: trains K more models, and scores the records with each")
        if cost(attack):
            print(f"    only by name or with --attacks all: {cost(attack)}")
    return 0
