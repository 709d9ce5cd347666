# SPDX-License-Identifier: Apache-2.0
"""Private text before any model sees it: read, drop duplicates, split by coin, plant canaries. Imports no torch.

Examples:
    >>> from reticent.data import Canary, Deduplication, Detector, Fields, SpanEvidence
    >>> from reticent.data import choose, drop_exact_duplicates, help_desk
    >>> pin = Canary(
    ...     id="c", kind="pin", repetitions=4, planted=True, text="The PIN is 4711", space=10_000,
    ...     probability=0.5, start=11,
    ... )
    >>> pin.secret
    '4711'
    >>> Fields(text=("subject", "body"), user="sender").user
    'sender'
    >>> isinstance(drop_exact_duplicates(help_desk(users=2)), Deduplication)
    True
    >>> (email,) = choose("email")
    >>> isinstance(email, Detector), email.evidence is SpanEvidence.FORM
    (True, True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reticent.core.lazy import lazy_names

if TYPE_CHECKING:
    from reticent.core.record import read_records as read_records
    from reticent.core.record import write_records as write_records
    from reticent.data.canaries.canary_file import Canary as Canary
    from reticent.data.dedup.dropped import Deduplication as Deduplication
    from reticent.data.dedup.dropped import DroppedRecord as DroppedRecord
    from reticent.data.dedup.exact import drop_exact_duplicates as drop_exact_duplicates
    from reticent.data.dedup.near import drop_near_duplicates as drop_near_duplicates
    from reticent.data.example import help_desk as help_desk
    from reticent.data.fields import Fields as Fields
    from reticent.data.pii.detect import choose as choose
    from reticent.data.pii.detect import find as find
    from reticent.data.pii.detector import Detector as Detector
    from reticent.data.pii.detector import SpanEvidence as SpanEvidence
    from reticent.data.pii.scrub import Scrubber as Scrubber
    from reticent.data.split import from_files as from_files
    from reticent.data.split import from_labels as from_labels

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
