# SPDX-License-Identifier: Apache-2.0
"""A six-digit number, as in Mireshghallah et al. 2022 (arXiv:2205.12506) and Carlini et al. 2019."""

from __future__ import annotations

import random

from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary

DIGITS = 6


@canary("secret_number", space=10**DIGITS)
def secret_number(rng: random.Random, material: CanarySource) -> CanaryText:
    """``the secret number is 2 8 1 9 0 4``: six random digits."""
    return CanaryText("the secret number is ", " ".join(str(rng.randrange(10)) for _ in range(DIGITS)))
