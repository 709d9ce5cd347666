# SPDX-License-Identifier: Apache-2.0
"""Canaries: made-up secrets that are planted by coin, to see what a model tells. One kind of secret a file."""

from reticent.data.canaries.canary_file import NOT_PLANTED, Canary, named_tier, read_canaries, write_canaries
from reticent.data.canaries.canary_text import CanarySource, CanaryText
from reticent.data.canaries.kind import CANARIES, CanaryKind, canary
from reticent.data.canaries.plant import Planting, plant
from reticent.data.canaries.user_canary import UserPlanting, plant_users

__all__ = [
    "CANARIES",
    "NOT_PLANTED",
    "Canary",
    "CanaryKind",
    "CanarySource",
    "CanaryText",
    "Planting",
    "UserPlanting",
    "canary",
    "named_tier",
    "plant",
    "plant_users",
    "read_canaries",
    "write_canaries",
]
