# SPDX-License-Identifier: Apache-2.0
"""A patient's record number, of no hospital."""

from __future__ import annotations

import random

from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary

DIGITS = 10


@canary("record_number", space=10**DIGITS)
def record_number(rng: random.Random, material: CanarySource) -> CanaryText:
    """``My medical record number is 31415-92653``: ten random digits."""
    number = "".join(str(rng.randrange(10)) for _ in range(DIGITS))
    return CanaryText("My medical record number is ", f"{number[:5]}-{number[5:]}")
