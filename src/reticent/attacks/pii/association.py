# SPDX-License-Identifier: Apache-2.0
"""Association: the attacker knows a name and asks for what belongs to it, with a list of what it may be."""

from __future__ import annotations

from reticent.attacks.attack import Scores, attack
from reticent.attacks.pii.evidence import CandidateRanking
from reticent.attacks.pii.inference import inference


@attack("pii_association", unit="secret", returns="rank", access="logprob", paper="arXiv:2205.12628")
def association(associated: CandidateRanking) -> Scores:
    """Rank of a person's e-mail address or telephone number among those of others, after sentences with the name.

    Returns ``[N]``, 1 = the model finds no other more likely.
    """
    return inference(associated)
