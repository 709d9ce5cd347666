# SPDX-License-Identifier: Apache-2.0
"""Attacks on one's own models: pure functions from evidence to one number for each unit. Imports no torch.

An attack stands for an attacker. Its ``access`` says what that attacker sees of the fine-tuned model, its evidence what
else they must hold (the base model, texts known to be outside). An audit runs them against a model that its owner is
about to ship, to learn what others could learn from it.
"""

from reticent.attacks.attack import ATTACKS, Attack, attack
from reticent.attacks.parameter import Within
from reticent.attacks.run import AttackOutcome, run_attack, run_attacks
from reticent.attacks.selection import AttackSelection, read_selection

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackOutcome",
    "AttackSelection",
    "Within",
    "attack",
    "read_selection",
    "run_attack",
    "run_attacks",
]
