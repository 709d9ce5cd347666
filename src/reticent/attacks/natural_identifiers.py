# SPDX-License-Identifier: Apache-2.0
"""Natural identifiers: is the identifier that a record holds likelier to the target than others of its form?

The attacker sees log-probabilities and holds the base model. A card number, a telephone number or a digest ends in
characters that are as good as drawn at random. Who never saw a value cannot prefer it to values with other such
characters, so its rank among them is uniform: an exact test of "this value was trained on" that needs no record that
was left out, and holds whatever the two sides of a split are like.
"""

from __future__ import annotations

import numpy as np

from reticent.attacks.attack import Scores, attack
from reticent.attacks.pii.evidence import CandidateRanking

NAME = "natural_identifiers"


@attack(NAME, unit="secret", returns="rank", access="logprob", paper="arXiv:2606.24408")
def natural_identifiers(controlled: CandidateRanking, controlled_base: CandidateRanking | None = None) -> Scores:
    """Rank of a record's identifier among controls of the same form, by how much likelier fine-tuning made each.

    By log p of the target minus that of the base. Ties count against the value, so that ranks of values that were not
    trained on are uniform or worse.

    Args:
        controlled: candidates in the place of each value, by the target.
        controlled_base: the same by the base; None: log p of the target alone, which is as fair and weaker.

    Returns ``[N]``, 1 = no control gained as much.
    """
    of_base = [np.zeros(len(row)) for row in controlled.logp] if controlled_base is None else controlled_base.logp
    gains = [mine - theirs for mine, theirs in zip(controlled.logp, of_base, strict=True)]
    pairs = zip(gains, controlled.truth.tolist(), strict=True)
    return np.array([(gain >= gain[true]).sum() for gain, true in pairs], dtype=np.float64)
