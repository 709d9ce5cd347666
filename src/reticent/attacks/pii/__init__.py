# SPDX-License-Identifier: Apache-2.0
"""Attacks on personal data, one a file: whose name, address or number is it? Imports no torch."""

from reticent.attacks.pii.evidence import Answers, CandidateRanking, FreeMentions, ProposedFills

__all__ = ["Answers", "CandidateRanking", "FreeMentions", "ProposedFills"]
