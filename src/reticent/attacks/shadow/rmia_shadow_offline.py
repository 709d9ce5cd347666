# SPDX-License-Identifier: Apache-2.0
"""RMIA, offline, with real reference models: of the attacked texts only models are looked at that did not see them.

What models that did see it would say is guessed from the others by a line, ``p_in = a·p_out + (1 - a)``. The paper
tunes ``a`` on the attacker's own models; so it is here: fitted to the population, of which the attacker knows which
shadow model saw what. The paper's 0.3 for images, where probabilities are near 1, would turn this into the loss: texts
have probabilities of a few percent.
"""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.parameter import Fraction, Positive
from reticent.attacks.shadow.lira import edge_cases as one_sided
from reticent.attacks.shadow.rmia_shadow import on_top, share
from reticent.attacks.shadow_models import ShadowScores
from reticent.core import validate


def edge_cases(
    shadow: ShadowScores, known_shadow: ShadowScores, *, a: float | None = None, gamma: float = 1.0
) -> dict[str, int]:
    """As in `rmia_shadow`."""
    line = fitted(known_shadow) if a is None else a
    return {**one_sided(shadow), **on_top(_log_ratio(shadow, line), _log_ratio(known_shadow, line), gamma)}


def fitted(known_shadow: ShadowScores) -> float:
    """The ``a`` in [0, 1] for which ``1 - p_in = a·(1 - p_out)`` holds best (least squares) on the population."""
    inside, outside = (-np.expm1(mean) for mean in known_shadow.means(np.exp, np.log))
    return float(np.clip((inside * outside).sum() / max((outside**2).sum(), 1e-12), 0.0, 1.0))


def _log_ratio(shadow: ShadowScores, a: float) -> Scores:
    _, outside = shadow.means(np.exp, np.log)
    return np.asarray(shadow.target - np.log((1 + a) / 2 * np.exp(outside) + (1 - a) / 2))


@attack(
    "rmia_shadow_offline",
    unit="record",
    returns="score",
    access="logprob",
    paper="arXiv:2312.03262",
    edge_cases=edge_cases,
)
def rmia_shadow_offline(
    shadow: ShadowScores,
    known_shadow: ShadowScores,
    *,
    a: Fraction | None = None,
    gamma: Positive = 1.0,
) -> Scores:
    """Share of known non-members whose gain over shadow models without them the text's gain beats by a factor.

    ``Pr_z[(p_T(x)/p(x)) / (p_T(z)/p(z)) >= gamma]`` with ``p(x) = (1+a)/2·mean p_out(x) + (1-a)/2``.

    Args:
        shadow: target and shadow models on the text; only models without it are looked at.
        known_shadow: the same on the population.
        a: in [0, 1]: how close models that saw a text are taken to be to those that did not; 1 = the same. None: fitted
            to the population.
        gamma: the factor, greater than 0.

    Returns ``[N]``, in [0, 1], higher = member.
    """
    validate.positive(gamma=gamma)
    if a is not None:
        validate.in_range(-1e-12, 1, a=a)
    line = fitted(known_shadow) if a is None else a
    return share(_log_ratio(shadow, line), _log_ratio(known_shadow, line), gamma)
