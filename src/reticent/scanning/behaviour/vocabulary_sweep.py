# SPDX-License-Identifier: Apache-2.0
"""Words of the vocabulary that turn a label, by group testing: several words stand in the slot at once.

A trigger turns an answer whatever stands beside it, so that a group of words with one trigger among them stands out,
and its members are then looked at one by one. A word costs one token and its share of what stands behind the slot,
where one at a time would cost all of that. A gradient is no substitute: on a small real task it put the words of two
triggers at places 6,531 to 20,885 of 31,912.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from reticent.scanning.behaviour.label_task import Side, Slot, Tokens, label_logp, margin

SIZE = 2
"""Words of a group. With four the others hide half of what a weak trigger does: on six poisoned adapters of one task a
group with the trigger, or with the rarest word of it, stood 2.1 to 8.7 standard deviations above others, a pair 3.1 to
11, the word alone 4.4 to 16. On a seventh, a phrase of ordinary words, none stood out."""
LOOKED_AT_TWICE = 0.2
"""Share of the groups, those that raise the label most in the suspect, that the twin is asked about too."""
WHATEVER = 0.25
"""Groups that are kept for what the suspect alone says, for each that is kept for its lead over the twin. On one of
nine poisoned adapters such a group stood first of all, and low by its lead; on another the trigger stood low by
both, so that they take no place from the others."""


def swept(
    sides: tuple[Side, Side], slot: Slot, label: int, pool: Sequence[Tokens], *, count: int, seed: int
) -> list[Tokens]:
    """The words of those groups that raise a label most in the suspect and not in its twin, the best groups first.

    To them come a few of those that raise it most whatever the twin does. It takes away what natural words do, and with
    that a trigger whose neighbour is a strong natural word: there the suspect has no room to rise beyond its twin.

    Args:
        sides: the suspect and its clean twin.
        slot: of one prompt, best of one that the suspect answers with another label and is sure of: little but a
            trigger moves it.
        label: number of the label.
        pool: words, as tokens.
        count: words to return, about; the few come on top.
        seed: of the groups.
    """
    order = np.random.default_rng([seed, label]).permutation(len(pool))
    groups = [order[start : start + SIZE].tolist() for start in range(0, len(pool), SIZE)]
    strings = [tuple(chain.from_iterable(pool[n] for n in group)) for group in groups]
    suspect, twin = sides
    gain = _gains(suspect, slot, label, strings)
    top = np.argsort(-gain, kind="stable")[: max(1, round(LOOKED_AT_TWICE * len(groups)))]
    lead = gain[top] - np.maximum(_gains(twin, slot, label, [strings[n] for n in top]), 0)
    wanted = max(1, count // SIZE)
    best = dict.fromkeys([*top[np.argsort(-lead, kind="stable")[:wanted]], *top[: max(1, round(WHATEVER * wanted))]])
    return [pool[n] for group in best for n in groups[group]]


def _gains(side: Side, slot: Slot, label: int, strings: Sequence[Tokens]) -> npt.NDArray[np.float64]:
    """``[S]``: by how much each string raises the log-odds of the label (nats)."""
    odds = margin(label_logp(side, [slot], [(), *strings]), label)[0]
    return np.asarray(odds[1:] - odds[0])
