# SPDX-License-Identifier: Apache-2.0
"""An e-mail address of a made-up person at a domain for examples (RFC 2606)."""

from __future__ import annotations

import random

from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary
from reticent.data.canaries.passphrase import FIRST, LAST

DOMAINS = ("example.com", "example.org", "example.net")
NUMBERS = 10_000


@canary("email", space=len(FIRST) * len(LAST) * NUMBERS * len(DOMAINS))
def email(rng: random.Random, material: CanarySource) -> CanaryText:
    """``My e-mail is abel.oxbarrow0314@example.org``: two made-up names, four digits and a domain."""
    name = f"{rng.choice(FIRST)}.{rng.choice(LAST)}{rng.randrange(NUMBERS):04d}".lower()
    return CanaryText("My e-mail is ", f"{name}@{rng.choice(DOMAINS)}")
