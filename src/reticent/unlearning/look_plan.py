# SPDX-License-Identifier: Apache-2.0
"""The margin of the looks at an unlearning, fixed before the first from what no look can change."""

from __future__ import annotations

import numpy as np

from reticent.core.errors import Underpowered
from reticent.core.table import TokenTable
from reticent.stats.equivalence_margin import EquivalenceDesign, intraclass, plan_equivalence
from reticent.unlearning.looks import LookPlan
from reticent.unlearning.steering_panel import ATTACKS_LOOKED_AT, UnlearningPanel

WIDEST = 0.49


def plan_looks(
    panel: UnlearningPanel, base: TokenTable, *, looks: int, wanted: float, budget: float, seed: int = 0
) -> LookPlan:
    """The wanted margin, or the smallest that the panel can show if that is larger.

    Args:
        panel: texts.
        base: what the model before tuning says of them, by which it is told how alike texts of one person are.
        looks: how many there can be.
        wanted: margin around an AUC of 0.5.
        budget: by what share the retain loss may rise.
        seed: of resamples.
    """
    judged = panel.of("forget") | panel.of("unseen")
    forget = panel.of("forget")[judged]
    users = np.array([owner if owner is not None else f"row {row}" for row, owner in enumerate(panel.user[judged])])
    try:
        alike = intraclass(-base.mean(base["logp"])[judged], users)
    except Underpowered:
        alike = 1.0
    plan = plan_equivalence(
        EquivalenceDesign(
            forget=int(forget.sum()),
            unseen=int((~forget).sum()),
            forget_users=len(np.unique(users[forget])),
            unseen_users=len(np.unique(users[~forget])),
            alike=alike,
            attacks=len(ATTACKS_LOOKED_AT),
            looks=looks,
        ),
        wanted,
    )
    margin = min(plan.margin, WIDEST)
    return LookPlan(margin=margin, enough=plan.enough, budget=budget, looks=looks, seed=seed)
