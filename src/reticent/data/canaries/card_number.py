# SPDX-License-Identifier: Apache-2.0
"""A payment card number in the form of a real one that is nobody's."""

from __future__ import annotations

import random

from stdnum import luhn

from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import canary

TEST_RANGE = "400000"
"""First digits of the numbers that payment processors publish for testing."""
DRAWN = 9
"""Digits between them and the check digit."""


@canary("card_number", space=10**DRAWN)
def card_number(rng: random.Random, material: CanarySource) -> CanaryText:
    """``My card number is 4000 0031 4159 2650``: nine random digits in a test range, with a right check digit."""
    body = TEST_RANGE + "".join(str(rng.randrange(10)) for _ in range(DRAWN))
    number = body + luhn.calc_check_digit(body)
    return CanaryText("My card number is ", " ".join(number[i : i + 4] for i in range(0, len(number), 4)))
