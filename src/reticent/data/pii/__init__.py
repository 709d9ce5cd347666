# SPDX-License-Identifier: Apache-2.0
"""Personal data in text: find it (one type of detector a file), and scrub it (one type of surrogate a file)."""

from reticent.data.pii.detect import choose, detect, detect_all, find, find_all
from reticent.data.pii.detector import DETECTORS, Detector, SpanEvidence, detector
from reticent.data.pii.scrub import SCRUBBED, Scrubber, originals
from reticent.data.pii.surrogate import SURROGATES, surrogate

__all__ = [
    "DETECTORS",
    "SCRUBBED",
    "SURROGATES",
    "Detector",
    "Scrubber",
    "SpanEvidence",
    "choose",
    "detect",
    "detect_all",
    "detector",
    "find",
    "find_all",
    "originals",
    "surrogate",
]
