# SPDX-License-Identifier: Apache-2.0
"""Texts that occur more than once: exact copies, near-duplicates, shared passages. One way to find them a file."""

from reticent.data.dedup.dropped import Deduplication, DroppedRecord, settled, write_dropped
from reticent.data.dedup.exact import drop_exact_duplicates
from reticent.data.dedup.minhash import drop_near_duplicates_by_minhash
from reticent.data.dedup.near import drop_near_duplicates, near_duplicates
from reticent.data.dedup.substring import drop_repeated_passages, share_covered, shared_passages
from reticent.data.dedup.within_user import within_user

__all__ = [
    "Deduplication",
    "DroppedRecord",
    "drop_exact_duplicates",
    "drop_near_duplicates",
    "drop_near_duplicates_by_minhash",
    "drop_repeated_passages",
    "near_duplicates",
    "settled",
    "share_covered",
    "shared_passages",
    "within_user",
    "write_dropped",
]
