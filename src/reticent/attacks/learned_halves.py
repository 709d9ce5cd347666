# SPDX-License-Identifier: Apache-2.0
"""Attacks that learn from labels: each half of the owners is scored by what was learned from the other, and that is
checked, for otherwise no test and no interval of such scores holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reticent.attacks.attack import Attack, Scores

HALF, MEMBER = "half", "member"


def learns(attack: Attack) -> bool:
    """True where the attack reads labels."""
    return MEMBER in attack.evidence


def looks_at_judged(attack: Attack, evidence: Mapping[str, Any], scores: Scores, *, seed: int = 0) -> bool:
    """True where scores of a half change once the labels of that half are dealt anew.

    Args:
        attack: reads ``member`` and ``half``.
        evidence: that it was run on.
        scores: ``[N]`` that it gave.
        seed: of the dealing.
    """
    rng = np.random.default_rng(seed)
    half, member = np.asarray(evidence[HALF], dtype=bool), np.asarray(evidence[MEMBER], dtype=bool)
    for judged in (half, ~half):
        dealt = member.copy()
        dealt[judged] = rng.permutation(member[judged])
        again = attack.score({**evidence, MEMBER: dealt})
        if not np.allclose(again[judged], scores[judged], rtol=1e-9, atol=1e-12):
            return True
    return False
