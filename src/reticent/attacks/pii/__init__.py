# SPDX-License-Identifier: Apache-2.0
"""Attacks on personal data, one a file: whose name, address or number is it? Imports no torch."""

from reticent.attacks.pii.evidence import Answers, CandidateRanking, FreeMentions, ProposedFills
from reticent.attacks.pii.pii_attack import PII_ATTACKS, PiiAttack, pii_attack

__all__ = ["PII_ATTACKS", "Answers", "CandidateRanking", "FreeMentions", "PiiAttack", "ProposedFills", "pii_attack"]
