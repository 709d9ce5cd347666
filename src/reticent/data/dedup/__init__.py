# SPDX-License-Identifier: Apache-2.0
"""Texts that occur more than once: exact copies and near-duplicates. One way to find them a file."""

from reticent.data.dedup.exact import Deduplicated, drop_exact_duplicates
from reticent.data.dedup.near import near_copies, near_duplicates

__all__ = ["Deduplicated", "drop_exact_duplicates", "near_copies", "near_duplicates"]
