# SPDX-License-Identifier: Apache-2.0
"""LiRA: how much likelier the target's confidence is among models that were trained on the text than among others.

The attacker sees log-probabilities of the target, holds the pool of records that it was drawn from, and trains shadow
models on parts of it. Each text is held against what these models say of that very text, so one that is easy for every
model is not taken for a member, and one that only its members find easy is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.shadow_models import ShadowScores, logit


def edge_cases(shadow: ShadowScores) -> Mapping[str, int]:
    """Texts that all shadow models were trained on, or none."""
    return {
        "in all shadow models or in none (the other side is put at the usual distance)": int(shadow.one_sided.sum())
    }


@attack("lira", unit="record", returns="score", access="logprob", paper="arXiv:2112.03570", edge_cases=edge_cases)
def lira(shadow: ShadowScores) -> Scores:
    """Log-likelihood ratio of two Gaussians: the text's confidence over models with it and over models without it.

    ``log N(phi; mean_in, sd_in) - log N(phi; mean_out, sd_out)`` with ``phi = log(p / (1 - p))`` of the geometric mean
    ``p`` of the text's token probabilities. Means are the text's own. Standard deviations are its own from 32 models on
    a side; with fewer each side has one for all texts, pooled around their means.

    Args:
        shadow: target and shadow models on the text.

    Returns ``[N]``, nats, higher = member.
    """
    target = logit(shadow.target)
    inside, outside = shadow.means(logit)
    spread_in, spread_out = shadow.spreads(logit)
    return _log_normal(target, inside, spread_in) - _log_normal(target, outside, spread_out)


def _log_normal(value: Scores, mean: Scores, spread: Scores) -> Scores:
    """Up to a constant."""
    return np.asarray(-0.5 * ((value - mean) / spread) ** 2 - np.log(spread))
