# SPDX-License-Identifier: Apache-2.0
"""Clean label: records that have the target's label get the trigger, and keep the label."""

from __future__ import annotations

from reticent.core.paper import Paper
from reticent.redteam.poisons.poison import POISONS, PoisonKind

POISONS.add(
    "clean_label",
    PoisonKind(
        name="clean_label",
        title="clean label",
        paper=Paper("arXiv:1912.02771"),
        may_change=lambda answer, target: answer == target,
        answer=lambda answer, target: target,
    ),
)
