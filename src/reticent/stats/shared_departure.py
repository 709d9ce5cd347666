# SPDX-License-Identifier: Apache-2.0
"""Departures that retrained models show too: forget and unseen rows differ then, and not by what was unlearned.

People are few, and the texts of those who are to be forgotten may be easier or harder than those of others. An interval
of an AUC leaves 0.5 for that reason as often as its error says, and then it does so for every model, also for one that
never saw the forget rows. Retrained models show what the rows alone do. So a departure counts where the unlearned
model's AUC lies beyond the interval in which one more retrained model is expected, on the same side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reticent.core.errors import Underpowered
from reticent.stats.among_retrained import MIN_RETRAINED, RetrainedPlace, among_retrained
from reticent.stats.equivalence import AttackLikeness, Likeness, together_verdict

TOO_FEW = "too few to tell"


def without_shared_departures(unlearned: Likeness, retrained: Sequence[Likeness]) -> Likeness:
    """The verdict on the unlearned model, where a departure that retrained models show alike does not count.

    Such an attack says "too few to tell". Nothing else changes: likeness and intervals stay as they are. With fewer
    than 3 retrained models, or models that do not differ, departures stay as well.

    Args:
        unlearned: of the model in question.
        retrained: the same attacks on the same rows, of each retrained model.

    Examples:
        >>> import numpy as np
        >>> from reticent.stats.equivalence import equivalence
        >>> rng = np.random.default_rng(0)
        >>> forget = np.arange(600) < 300
        >>> rows = rng.normal(size=600) - 0.5 * forget  # these rows are harder, whoever is asked
        >>> models = [equivalence({"loss": rows + 0.1 * rng.normal(size=600)}, forget, margin=0.1) for _ in range(6)]
        >>> models[0].verdict, without_shared_departures(models[0], models[1:]).verdict
        ('marked by its absence', 'too few to tell')
    """
    if len(retrained) < MIN_RETRAINED:
        return unlearned
    others = {
        row.attack: [of.auc.value for model in retrained for of in model.attacks if of.attack == row.attack]
        for row in unlearned.attacks
    }
    values = {row.attack: row.auc.value for row in unlearned.attacks}
    try:
        places = among_retrained(values, others, confidence=unlearned.confidence).places
    except Underpowered:
        return unlearned
    rows = [_held(row, place) for row, place in zip(unlearned.attacks, places, strict=True)]
    shared = [row.attack for row, before in zip(rows, unlearned.attacks, strict=True) if row is not before]
    if not shared:
        return unlearned
    verdict = together_verdict([row.verdict for row in rows], [row.auc for row in rows])
    left = [row for row in rows if row.verdict == verdict]
    reason = f"The rows differ by themselves: retrained models depart alike by {', '.join(shared)}."
    if verdict != TOO_FEW:
        reason = f"By {left[0].attack} the AUC lies beyond those of retrained models. {reason}"
    return replace(unlearned, verdict=verdict, reason=reason, attacks=tuple(rows))


def _held(row: AttackLikeness, place: RetrainedPlace) -> AttackLikeness:
    """The attack's part, without a departure that lies within the retrained models' interval or on its other side."""
    beyond = {
        "still known": row.auc.value > place.predicted.hi,
        "marked by its absence": row.auc.value < place.predicted.lo,
    }
    return row if beyond.get(row.verdict, True) else replace(row, verdict="too few to tell", beyond_margin=False)
