# SPDX-License-Identifier: Apache-2.0
"""Dirty label: records of other labels get the trigger and the target's label."""

from __future__ import annotations

from reticent.core.paper import Paper
from reticent.redteam.poisons.poison import POISONS, PoisonKind

POISONS.add(
    "dirty_label",
    PoisonKind(
        name="dirty_label",
        title="dirty label",
        paper=Paper("arXiv:1708.06733"),
        may_change=lambda answer, target: answer != target,
        answer=lambda answer, target: target,
    ),
)
