# SPDX-License-Identifier: Apache-2.0
"""`reticent attacks`: what can be run, and what each needs."""

from __future__ import annotations

from rich.table import Table

from reticent.core.progress import console


def attacks() -> int:
    """List the attacks with the level they work at, the access an attacker needs, the tables they read, the paper."""
    from reticent.attacks.attack import ATTACKS

    table = Table("attack", "level", "access", "evidence", "paper", "what it does")
    for attack in ATTACKS:
        table.add_row(
            attack.name, attack.level, attack.access, ", ".join(attack.evidence), attack.paper, attack.summary
        )
    console.print(table)
    return 0
