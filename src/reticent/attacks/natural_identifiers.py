# SPDX-License-Identifier: Apache-2.0
"""Natural identifiers: is the identifier that a record holds likelier to the target than others of its form?

The attacker sees log-probabilities and holds the base model. A card number, a telephone number or a digest ends in
characters that are as good as drawn at random. Who never saw a value cannot prefer it to values with other such
characters, so its rank among them is uniform: an exact test of "this value was trained on" that needs no record that
was left out, and holds whatever the two sides of a split are like.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reticent.attacks.pii.evidence import CandidateRanking

NAME = "natural_identifiers"
ACCESS = "logprob"
PAPER = "arXiv:2606.24408"
SUMMARY = "Rank of a record's identifier among controls of the same form, by how much likelier fine-tuning made each."


def natural_identifiers(ranked: CandidateRanking, ranked_base: CandidateRanking | None) -> npt.NDArray[np.int64]:
    """``[N]``: rank of each true value by log p of the target minus that of the base, 1 = none gained as much.

    Ties count against the value, so that ranks of values that were not trained on are uniform or worse.

    Args:
        ranked: candidates in the place of each value, by the target.
        ranked_base: the same by the base; None: log p of the target alone, which is as fair and weaker.
    """
    base = [np.zeros(len(row)) for row in ranked.logp] if ranked_base is None else ranked_base.logp
    gains = [mine - theirs for mine, theirs in zip(ranked.logp, base, strict=True)]
    pairs = zip(gains, ranked.truth.tolist(), strict=True)
    return np.array([int((gain >= gain[true]).sum()) for gain, true in pairs], dtype=np.int64)
