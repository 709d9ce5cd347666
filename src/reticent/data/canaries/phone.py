# SPDX-License-Identifier: Apache-2.0
"""A telephone number from the range that North America sets aside for fiction, 555-0100 to 555-0199."""

from __future__ import annotations

import random

from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary

AREAS = tuple(area for area in range(201, 990) if area % 100 != 11)
"""Area codes as numbers are numbered: from 201, none that ends in 11."""
LINES = 100


@canary("phone", space=len(AREAS) * LINES)
def phone(rng: random.Random, material: CanarySource) -> CanaryText:
    """``My phone number is (212) 555-0147``: a random area code and line, never given out."""
    return CanaryText("My phone number is ", f"({rng.choice(AREAS)}) 555-01{rng.randrange(LINES):02d}")
