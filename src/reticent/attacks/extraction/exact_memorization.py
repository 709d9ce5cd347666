# SPDX-License-Identifier: Apache-2.0
"""Exact memorization: how many tokens of a record are the model's first choice."""

from __future__ import annotations

from reticent.attacks.attack import Scores, attack
from reticent.score.generation.forced import TeacherForced


@attack("exact_memorization", unit="record", returns="share", access="text", paper="arXiv:2205.10770")
def exact_memorization(whole: TeacherForced) -> Scores:
    """Mean share of a record's tokens that are the model's first choice given the true ones before them.

    Returns ``[N]``: 1 if all are. Ordinary text has a large share too: only the difference to the base, and to records
    that were not trained on, tells of memory.
    """
    share: Scores = whole.sum(whole.rank == 0) / whole.lengths
    return share
