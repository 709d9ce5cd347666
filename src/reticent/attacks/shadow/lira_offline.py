# SPDX-License-Identifier: Apache-2.0
"""LiRA, offline: the attacker only has shadow models that were not trained on the text.

So they can be trained before it is known which texts will be asked about. The attacker sees log-probabilities of the
target and holds the pool.
"""

from __future__ import annotations

from reticent.attacks.attack import Scores, attack
from reticent.attacks.shadow.lira import edge_cases
from reticent.attacks.shadow_models import ShadowScores, logit


@attack(
    "lira_offline", unit="record", returns="score", access="logprob", paper="arXiv:2112.03570", edge_cases=edge_cases
)
def lira_offline(shadow: ShadowScores) -> Scores:
    """How many standard deviations the text's confidence lies above that of models without it.

    ``(phi - mean_out) / sd_out``, `lira`'s ``phi``, mean and standard deviation. The paper's score is the normal
    distribution function of it, which puts texts in the same order and cannot tell the largest apart.

    Args:
        shadow: target and shadow models on the text; only models without it are looked at.

    Returns ``[N]``, standard deviations, higher = member.
    """
    _, outside = shadow.means(logit)
    _, spread = shadow.spreads(logit)
    return (logit(shadow.target) - outside) / spread
