# SPDX-License-Identifier: Apache-2.0
"""Discoverable memorization by an attacker who knows only a few tokens before the secret."""

from __future__ import annotations

from collections.abc import Mapping

from reticent.attacks.attack import Scores, attack
from reticent.attacks.extraction.discoverable import discoverable
from reticent.attacks.parameter import Count
from reticent.score.generation.forced import TeacherForced


@attack("discoverable_short", unit="secret", returns="hit", access="text", paper="arXiv:2202.07646")
def discoverable_short(short: Mapping[int, TeacherForced], *, tokens: Count = 10) -> Scores:
    """Share of secrets that greedy decoding writes after only the last 10 tokens before them.

    Returns ``[N]``, 1 where it does. Where fewer tokens precede a secret, they are all given.
    """
    return discoverable(short[tokens])
