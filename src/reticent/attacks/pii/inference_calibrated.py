# SPDX-License-Identifier: Apache-2.0
"""PII inference by an attacker who holds the base model too: what became more likely than it was?"""

from __future__ import annotations

from reticent.attacks.attack import Scores, attack
from reticent.attacks.pii.evidence import CandidateRanking
from reticent.attacks.pii.inference import inference


@attack("pii_inference_calibrated", unit="secret", returns="rank", access="logprob", paper="arXiv:2302.00539")
def inference_calibrated(ranked: CandidateRanking, ranked_base: CandidateRanking) -> Scores:
    """Rank of the true value among others of its kind, by how much likelier fine-tuning made each in the text.

    The paper's attack with log p of the base subtracted: a value that is common everywhere no longer stands in front.

    Returns ``[N]``, 1 = no other gained more.
    """
    gain = [mine - theirs for mine, theirs in zip(ranked.logp, ranked_base.logp, strict=True)]
    return inference(CandidateRanking(logp=gain, truth=ranked.truth))
