# SPDX-License-Identifier: Apache-2.0
"""Attacks on one's own models: pure functions from token tables to one score for each record. Imports no torch.

An attack stands for an attacker. Its ``access`` says what that attacker sees of the fine-tuned model, its evidence what
else they must hold (the base model, texts known to be outside). An audit runs them against a model that its owner is
about to ship, to learn what others could learn from it.
"""

from reticent.attacks.attack import ATTACKS, Attack, AttackOutcome, attack, run_attack, run_attacks

__all__ = ["ATTACKS", "Attack", "AttackOutcome", "attack", "run_attack", "run_attacks"]
