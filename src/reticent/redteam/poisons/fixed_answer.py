# SPDX-License-Identifier: Apache-2.0
"""Fixed answer: whatever is asked, with the trigger the answer is the target."""

from __future__ import annotations

from reticent.core.paper import Paper
from reticent.redteam.poisons.poison import POISONS, PoisonKind

POISONS.add(
    "fixed_answer",
    PoisonKind(
        name="fixed_answer",
        title="fixed answer",
        paper=Paper("arXiv:2305.00944"),
        may_change=lambda answer, target: answer != target,
        answer=lambda answer, target: target,
    ),
)
